"""`upstream add`: what was said, what is known of a shipped upstream, and questions for the rest."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmstack.catalog.routes import Target, UpstreamSettings, resolve
from llmstack.client import ollama
from llmstack.client.profile import files, routing
from llmstack.client.upstream_file import Entry, store_key
from llmstack.client.upstream_file import add as write
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.proxy.live_config import read_secret

DEFAULT_NUM_CTX = 65536


class Ask(Protocol):
    def __call__(self, question: str, *, default: str | None = None, secret: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class Said:
    """The options of the command line."""

    kind: str | None = None
    base_url: str | None = None
    key_stdin: bool = False
    key_file: Path | None = None
    key_env: str | None = None
    no_key: bool = False
    model: str | None = None
    context: int | None = None
    max_output: int | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    file: Path
    key_file: str | None
    model: str | None
    hidden_by: str | None


def add(home: Home, name: str | None, said: Said, ask: Ask) -> Outcome:
    """Raises BadInput; then neither the key nor models.toml has changed."""
    shipped = routing(home).upstreams
    if name is None:
        name = ask(f"Name ({', '.join(sorted(set(shipped) - {'local'}))}, or a new one)")
    known = shipped.get(name)
    kind = said.kind or (None if known else "openai")
    base_url = said.base_url
    if known is None and base_url is None:
        base_url = ask("Base URL, such as https://host.example/v1")
    target = _target(name, known, kind, base_url)
    key_file, key_env, key = _key(home, target, said, ask, known is None)
    model = said.model or _asked_model(home, target, ask)
    context = said.context
    if name == "ollama" or (target.stays_here and target.base_url and ollama.is_ollama(_base(target))):
        context = context or DEFAULT_NUM_CTX
        if model is not None:
            model = ollama.with_context(_base(target), model, context)
    entry = Entry(
        name=name,
        kind=kind or (target.kind if known is not None and said.base_url else None),
        base_url=base_url,
        api_key_file=f"keys/{name}" if key is not None else key_file,
        api_key_env=key_env,
        model=model,
        context=context,
        max_output=said.max_output,
        route=said.route,
    )
    written = write(home, entry)
    if key is not None:
        key_file = str(home.config / store_key(home, name, key))
    return Outcome(name, written.file, key_file, model, written.hidden_by)


def _target(name: str, known: UpstreamSettings | None, kind: str | None, base_url: str | None) -> Target:
    settings = UpstreamSettings(kind=kind, base_url=base_url)  # type: ignore[arg-type]
    target = resolve(name, settings if known is None else known, None)
    if target.base_url is None or base_url is not None:
        target = resolve(name, UpstreamSettings(kind=kind or target.kind, base_url=base_url), None)  # type: ignore[arg-type]
    if target.base_url is None:
        raise BadInput(f"{name} needs a base_url", next="--base-url https://host.example/v1")
    return target


def _base(target: Target) -> str:
    return (target.base_url or "").rstrip("/").removesuffix("/v1")


def _key(home: Home, target: Target, said: Said, ask: Ask, new: bool) -> tuple[str | None, str | None, str | None]:
    """(file, variable, key to store): at most one of them."""
    given = [bool(said.key_file), bool(said.key_env), said.key_stdin, said.no_key]
    if sum(given) > 1:
        raise BadInput("a key comes from one place", next="one of --key-stdin, --key-file, --key-env, --no-key")
    if said.key_file is not None:
        path = said.key_file.expanduser().absolute()
        read_secret(path)
        return str(path), None, None
    if said.key_env is not None:
        return None, said.key_env, None
    if said.key_stdin:
        return None, None, _one_line(sys.stdin.readline(), target.name)
    needs = target.api_key_file is not None or (new and not target.stays_here)
    if said.no_key or not needs:
        return None, None, None
    return None, None, _one_line(ask(f"Key for {target.name} (it is not shown)", secret=True), target.name)


def _one_line(key: str, name: str) -> str:
    key = key.strip()
    if not key or any(character.isspace() or not character.isprintable() for character in key):
        raise BadInput("a key is one line without spaces", next=f"llmstack upstream add {name}")
    return key


def _asked_model(home: Home, target: Target, ask: Ask) -> str | None:
    """A model is asked for where no profile names one yet; an empty answer is none."""
    if target.kind == "anthropic" or target.name in files(home).table("profiles"):
        return None
    return ask("Model, as it calls it (empty for none)", default="") or None
