"""Writes an upstream into the user's models.toml: one marked block each, and in it only the keys that are said anew.
Everything else stays byte for byte, what a person wrote into a block too.

What would make the file invalid is refused before anything is written. Keys are files of mode 0600 beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from llmstack.catalog import overlay, routes
from llmstack.catalog.profiles import profiles
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home, catalog_texts, write_private

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_OFFLINE = re.compile(r"^offline[ \t]*=.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """What is said of an upstream; None: as shipped, or by default. route: a glob that leads to it.

    model: what its profile asks for, and what the route asks of it. context, max_output: tokens. keyless: it needs no
    key, whatever was said of one before.
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
    keyless: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """hidden_by: an earlier route of the user's that takes the new one's names."""

    file: Path
    hidden_by: str | None


@dataclass(frozen=True, slots=True)
class RemovedUpstream:
    """lines: what stood in its block, the user's own lines too. key_file: deleted as well; None where none was."""

    name: str
    file: Path
    lines: tuple[str, ...]
    key_file: Path | None


def add(home: Home, entry: UpstreamEntry) -> Added:
    """Adds the upstream; of one that was added before, what is said anew replaces what was said, and the rest stays.

    Raises BadInput; the file is then untouched.
    """
    if not NAME.match(entry.name) or entry.name == "local":
        raise BadInput(f"{entry.name!r} can be no upstream's name", next="letters, digits, - and _; `local` is taken")
    before = _read(home)
    routing = check(home, before)
    document = overlay.parse(before, str(home.catalog))
    block = _block_of(before, entry.name)
    for table in ("upstreams", "profiles"):
        line = document.lines.get((table, entry.name))
        if line is None or line in block or (table == "profiles" and entry.model is None):
            continue
        if table == "upstreams" and _says_so(routing, entry):
            return Added(home.catalog, None)
        raise BadInput(
            f"{home.catalog}:{line} has a [{table}.{entry.name}] of your own", next=f"edit it there: {home.catalog}"
        )
    if block:
        new = _changed(before, entry, str(home.catalog))
    else:
        text = before if not before or before.endswith("\n") else before + "\n"
        new = text + ("\n" if text.strip() else "") + _block(entry)
    routing = check(home, new)
    write_private(home.catalog, new.encode())
    return Added(home.catalog, _hidden(routing, entry))


def remove(home: Home, name: str) -> RemovedUpstream:
    """Takes out what `add` wrote, and the key that it stored. Raises BadInput; the file is then untouched."""
    before = _read(home)
    check(home, before)
    document = overlay.parse(before, str(home.catalog))
    block = _block_of(before, name)
    key = home.keys / name
    key_file = key if NAME.match(name) and key.is_file() else None
    line = document.lines.get(("upstreams", name))
    if line is not None and line not in block:
        raise BadInput(f"{home.catalog}:{line} has a [upstreams.{name}] of your own", next=f"edit it: {home.catalog}")
    if not block and key_file is None:
        known = sorted(file_upstreams(before))
        raise BadInput(
            f"nothing was added for {name}",
            why=f"added are {', '.join(known)}" if known else "no upstream was added",
            next=f"{command_line('upstream', 'list')}   shows all that are known",
        )
    lines = before.splitlines(keepends=True)
    _refuse_lines_below(lines, block, home.catalog)
    gone = lines[block.start - 1 : block.stop - 1] if block else []
    above, below = "".join(lines[: block.start - 1]).rstrip("\n"), "".join(lines[block.stop - 1 :])
    new = (f"{above}\n" if above else "") + below if block else before
    try:
        check(home, new)
    except BadInput as error:
        # Its line would be one of the text as it would be; what needs the upstream is what matters.
        raise BadInput(
            f"something in {home.catalog} still needs {name}",
            why=error.what.partition(": ")[2],
            next="take that out first",
        ) from None
    write_private(home.catalog, new.encode())
    if key_file is not None:
        key_file.unlink()
    return RemovedUpstream(name, home.catalog, tuple(line.rstrip("\n") for line in gone[1:-1]), key_file)


def file_upstreams(text: str) -> tuple[str, ...]:
    """The upstreams that `add` wrote into this text."""
    return tuple(re.findall(_marks(r"(\S+)")[0], text))


def set_offline(home: Home, offline: bool) -> Path:
    """Raises BadInput; the file is then untouched."""
    before = _read(home)
    check(home, before)  # as it is, so that an error names its line
    text = _OFFLINE.sub("", before, count=1)
    new = f"offline = {str(offline).lower()}\n{text}" if offline else text
    check(home, new)
    write_private(home.catalog, new.encode())
    return home.catalog


def store_key(home: Home, name: str, key: str) -> str:
    """Keeps the key in a 0600 file; returns the path as models.toml says it."""
    write_private(home.keys / name, f"{key}\n".encode("latin-1", "replace"))
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


def _block_of(text: str, name: str) -> range:
    """The lines (from 1) of an upstream's block, both marks among them; empty where there is none."""
    begin, end = _marks(name)
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        return range(0)
    return range(text.count("\n", 0, start) + 1, text.count("\n", 0, stop) + 2)


def _says_so(routing: routes.Routing, entry: UpstreamEntry) -> bool:
    """Whether the user's own table says all of it already: then only the key that it names is new."""
    own = routing.upstreams[entry.name]
    values = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != "name"}
    return all(value is None or getattr(own, key, None) == value for key, value in values.items() if value is not False)


def _refuse_lines_below(lines: Sequence[str], block: range, file: Path) -> None:
    """A key below the block still belongs to its last table: without the block it would belong to another one."""
    for number, line in enumerate(lines[block.stop - 1 :] if block else (), start=block.stop):
        if line.strip().startswith("["):
            return
        if line.strip() and not line.strip().startswith("#"):
            raise BadInput(
                f"{file}:{number} belongs to what would be removed: {line.strip()}", next=f"move or delete it: {file}"
            )


def _changed(text: str, entry: UpstreamEntry, file: str) -> str:
    """The text with what this entry says in the upstream's block, and everything else as it stands there.

    New tables go to the block's top: a line that was written below its end belongs to its last table.
    """
    name = entry.name
    before = overlay.parse(text, file).data
    changes: dict[str, str | int | None] = {key: value for key in _KEYS if (value := getattr(entry, key)) is not None}
    if entry.api_key_file is not None or entry.api_key_env is not None or entry.keyless:
        changes |= {"api_key_file": entry.api_key_file, "api_key_env": entry.api_key_env}  # a key has one place
    for key, value in changes.items():
        text = _set(text, ("upstreams", name), key, value, file)
    old_model = before.get("profiles", {}).get(name, {}).get("model")
    if entry.model is not None:
        if old_model is None:
            text = _insert(text, _block_of(text, name).start, _profile(entry))
        text = _set(text, ("profiles", name), "model", f"{name}/{entry.model}", file)
        for number, route in enumerate(before.get("routes", ())):
            if route.get("upstream") == name and f"{name}/{route.get('model')}" == old_model:
                text = _set(text, ("routes", number), "model", entry.model, file)
    if entry.route is not None and not any(
        (route.get("match"), route.get("upstream")) == (entry.route, name) for route in before.get("routes", ())
    ):
        text = _insert(text, _block_of(text, name).start, _route(entry))
    return text


def _set(text: str, table: tuple[str | int, ...], key: str, value: str | int | None, file: str) -> str:
    """One key of a table, by the line it stands on; None takes it out."""
    where = overlay.parse(text, file).lines
    lines = text.splitlines(keepends=True)
    number = where.get((*table, key))
    if number is None:
        return text if value is None else _insert(text, where[table], [f"{key} = {_value(value)}"])
    parts = _SCALAR.match(lines[number - 1])
    if parts is None:
        raise BadInput(f"{file}:{number}: {key} is not on one line of its own", next=f"edit it there: {file}")
    lines[number - 1] = "" if value is None else f"{parts[1]}{_value(value)}{parts[2]}"
    return "".join(lines)


def _insert(text: str, number: int, new: Sequence[str]) -> str:
    """Lines behind the line of that number (from 1)."""
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:number], *(f"{line}\n" for line in new), *lines[number:]])


# `key = value   # comment`: everything before the value, and everything behind it.
_SCALAR = re.compile(r"""^([^=]+=\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'\[{#]+)(\s*(?:#.*)?\n?)$""")
_KEYS = ("kind", "base_url", "api_key_file", "api_key_env", "context", "max_output")


def _block(entry: UpstreamEntry) -> str:
    begin, end = _marks(entry.name)
    lines = [f"[upstreams.{entry.name}]"]
    lines += [f"{key} = {_value(value)}" for key in _KEYS if (value := getattr(entry, key)) is not None]
    if entry.model is not None:
        lines += ["", *_profile(entry)[:-1], f"model = {_value(f'{entry.name}/{entry.model}')}"]
    if entry.route is not None:
        lines += ["", *_route(entry)[:-1]]
    return begin + "\n".join(lines) + "\n" + end


def _profile(entry: UpstreamEntry) -> list[str]:
    return [f"[profiles.{entry.name}]", ""]


def _route(entry: UpstreamEntry) -> list[str]:
    model = [f"model = {_value(entry.model)}"] if entry.model is not None else []
    return ["[[routes]]", f"match = {_value(str(entry.route))}", f"upstream = {_value(entry.name)}", *model, ""]


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
