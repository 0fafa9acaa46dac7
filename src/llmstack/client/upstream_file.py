"""Writes an upstream into the user's models.toml: one marked block each, everything else stays byte for byte.

What would make the file invalid is refused before anything is written. Keys are files of mode 0600 beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmstack.catalog import overlay, routes
from llmstack.catalog.profiles import profiles
from llmstack.errors import BadInput
from llmstack.paths import Home, catalog_texts, write_private

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_OFFLINE = re.compile(r"^offline[ \t]*=.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """What is said of an upstream; None: as shipped, or by default. route: a glob that leads to it.

    model: what its profile asks for, and what the route asks of it. context, max_output: tokens.
    """

    name: str
    kind: str | None = None
    base_url: str | None = None
    api_key_file: str | None = None
    api_key_env: str | None = None
    model: str | None = None
    context: int | None = None
    max_output: int | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """hidden_by: an earlier route of the user's that takes the new one's names."""

    file: Path
    hidden_by: str | None


def add(home: Home, entry: UpstreamEntry) -> Added:
    """Adds the upstream, or replaces the block that was added before. Raises BadInput; the file is then untouched."""
    if not NAME.match(entry.name) or entry.name == "local":
        raise BadInput(f"{entry.name!r} can be no upstream's name", next="letters, digits, - and _; `local` is taken")
    before = _read(home)
    text = _without_block(before, entry.name)
    document = overlay.parse(text, str(home.catalog))
    for table in ("upstreams", "profiles"):
        line = document.lines.get((table, entry.name))
        if line is not None and (table == "upstreams" or entry.model is not None):
            raise BadInput(
                f"{home.catalog}:{line} has a [{table}.{entry.name}] of your own", next=f"edit it there: {home.catalog}"
            )
    if text and not text.endswith("\n"):
        text += "\n"
    new = text + ("\n" if text.strip() else "") + _block(entry)
    routing = check(home, new)
    write_private(home.catalog, new.encode())
    return Added(home.catalog, _hidden(routing, entry))


def set_offline(home: Home, offline: bool) -> Path:
    """Raises BadInput; the file is then untouched."""
    text = _OFFLINE.sub("", _read(home), count=1)
    new = f"offline = {str(offline).lower()}\n{text}" if offline else text
    check(home, new)
    write_private(home.catalog, new.encode())
    return home.catalog


def store_key(home: Home, name: str, key: str) -> str:
    """Keeps the key in a 0600 file; returns the path as models.toml says it."""
    write_private(home.config / "keys" / name, f"{key}\n".encode("latin-1", "replace"))
    return f"keys/{name}"


def check(home: Home, text: str) -> routes.Routing:
    """The text as the proxy would read it. Raises BadInput with the line of what is wrong."""
    texts = replace(catalog_texts(home, with_user=False), user=text.encode())
    merged = overlay.load(texts)
    profiles(merged)
    return routes.read(merged)


def _read(home: Home) -> str:
    try:
        return home.catalog.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{home.catalog} cannot be read: {error}") from None


def _marks(name: str) -> tuple[str, str]:
    return f"# >>> llmstack upstream {name} >>>\n", f"# <<< llmstack upstream {name} <<<\n"


def _without_block(text: str, name: str) -> str:
    begin, end = _marks(name)
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        return text
    rest = text[stop + len(end) :]
    return (text[:start].rstrip("\n") + "\n" if text[:start].strip() else "") + rest


def _block(entry: UpstreamEntry) -> str:
    begin, end = _marks(entry.name)
    lines = [f"[upstreams.{entry.name}]"]
    for key in ("kind", "base_url", "api_key_file", "api_key_env", "context", "max_output"):
        value = getattr(entry, key)
        if value is not None:
            lines.append(f"{key} = {_value(value)}")
    if entry.model is not None:
        lines += ["", f"[profiles.{entry.name}]", f"model = {_value(f'{entry.name}/{entry.model}')}"]
    if entry.route is not None:
        lines += ["", "[[routes]]", f"match = {_value(entry.route)}", f"upstream = {_value(entry.name)}"]
        if entry.model is not None:
            lines.append(f"model = {_value(entry.model)}")
    return begin + "\n".join(lines) + "\n" + end


def _value(value: str | int) -> str:
    """A TOML basic string has JSON's escapes (toml.io/en/v1.0.0, "String"), but for DEL, which no value here has."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _hidden(routing: routes.Routing, entry: UpstreamEntry) -> str | None:
    if entry.route is None:
        return None
    listed: Sequence[routes.Route] = routing.routes
    for route in listed:
        if route.match == entry.route and route.upstream == entry.name:
            return None
        if route.match == "*" or route.match == entry.route:
            return route.match
    return None
