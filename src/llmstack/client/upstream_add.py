"""`upstream add`: what was said, what is known of a shipped upstream, and questions for the rest."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llmstack.catalog.routes import Target, UpstreamSettings, resolve
from llmstack.client import ollama
from llmstack.client.outside import remember_ollama_model
from llmstack.client.profile import files, routing
from llmstack.client.upstream_file import UpstreamEntry, store_key
from llmstack.client.upstream_file import add as write
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.proxy.live_config import read_secret

DEFAULT_NUM_CTX = 65536


class AskUser(Protocol):
    def __call__(self, question: str, *, default: str | None = None, secret: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
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
class UpstreamAdded:
    name: str
    file: Path
    key_file: str | None
    model: str | None
    hidden_by: str | None


def add(home: Home, name: str | None, request: UpstreamRequest, ask: AskUser) -> UpstreamAdded:
    """Raises BadInput; then neither the key nor models.toml has changed."""
    shipped = routing(home).upstreams
    if name is None:
        name = ask(f"Name ({', '.join(sorted(set(shipped) - {'local'}))}, or a new one)")
    shipped_settings = shipped.get(name)
    kind = request.kind or (None if shipped_settings else "openai")
    base_url = request.base_url
    if shipped_settings is None and base_url is None:
        base_url = ask("Base URL, such as https://host.example/v1")
    target = _target(name, shipped_settings, kind, base_url)
    key_file, key_env, key = _key(home, target, request, ask, shipped_settings is None)
    model = request.model or _asked_model(home, target, ask)
    context = request.context
    if name == "ollama" or (target.stays_here and target.base_url and ollama.is_ollama(_base(target))):
        context = context or DEFAULT_NUM_CTX
        if model is not None:
            model = ollama.with_context(_base(target), model, context)
            remember_ollama_model(home, _base(target), model)
    entry = UpstreamEntry(
        name=name,
        kind=kind or (target.kind if shipped_settings is not None and request.base_url else None),
        base_url=base_url,
        api_key_file=f"keys/{name}" if key is not None else key_file,
        api_key_env=key_env,
        model=model,
        context=context,
        max_output=request.max_output,
        route=request.route,
        keyless=request.no_key,
    )
    written = write(home, entry)
    if key is not None:
        key_file = str(home.config / store_key(home, name, key))
    return UpstreamAdded(name, written.file, key_file, model, written.hidden_by)


def _target(name: str, shipped_settings: UpstreamSettings | None, kind: str | None, base_url: str | None) -> Target:
    settings = UpstreamSettings(kind=kind, base_url=base_url)  # type: ignore[arg-type]
    target = resolve(name, settings if shipped_settings is None else shipped_settings, None)
    if target.base_url is None or base_url is not None:
        target = resolve(name, UpstreamSettings(kind=kind or target.kind, base_url=base_url), None)  # type: ignore[arg-type]
    if target.base_url is None:
        raise BadInput(f"{name} needs a base_url", next="--base-url https://host.example/v1")
    return target


def _base(target: Target) -> str:
    return (target.base_url or "").rstrip("/").removesuffix("/v1")


def _key(
    home: Home, target: Target, request: UpstreamRequest, ask: AskUser, new: bool
) -> tuple[str | None, str | None, str | None]:
    """(file, variable, key to store): at most one of them."""
    given = [bool(request.key_file), bool(request.key_env), request.key_stdin, request.no_key]
    if sum(given) > 1:
        raise BadInput("a key comes from one place", next="one of --key-stdin, --key-file, --key-env, --no-key")
    if request.key_file is not None:
        path = request.key_file.expanduser().absolute()
        read_secret(path)
        return str(path), None, None
    if request.key_env is not None:
        return None, request.key_env, None
    again = command_line("upstream", "add", target.name)
    if request.key_stdin:
        return None, None, one_line_key(sys.stdin.readline(), again)
    needs = target.api_key_file is not None or (new and not target.stays_here)
    if request.no_key or not needs:
        return None, None, None
    return None, None, one_line_key(ask(f"Key for {target.name} (it is not shown)", secret=True), again)


def one_line_key(key: str, again: str) -> str:
    """A key as it was typed or piped. again: the command that asks for it. Raises BadInput."""
    key = key.strip()
    if not key or any(character.isspace() or not character.isprintable() for character in key):
        raise BadInput("a key is one line without spaces", next=again)
    return key


def _asked_model(home: Home, target: Target, ask: AskUser) -> str | None:
    """A model is asked for where no profile names one yet; an empty answer is none."""
    if target.kind == "anthropic" or target.name in files(home).table("profiles"):
        return None
    return ask("Model, as it calls it (empty for none)", default="") or None
