"""`web-search`: who searches the web for this stack. A key is stored before the settings name its back end, and deleted
when they name it no more; the proxy takes both up while it runs."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from llmstack.catalog.overlay import load
from llmstack.catalog.routes import read
from llmstack.client.upstream_add import AskUser, one_line_key
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.paths import Home, catalog_texts, write_private
from llmstack.protocol.limits import most
from llmstack.protocol.web.calls import SearchWish
from llmstack.protocol.web.domains import DomainRules
from llmstack.protocol.web.hits import WebHit
from llmstack.protocol.web.refusal import WebRefused, trial
from llmstack.protocol.web.services import SERVICES
from llmstack.proxy.live_config import read_secret
from llmstack.proxy.web.searching import SearchBackEnd
from llmstack.web_settings import WebSettings, key_file, key_state, read_settings, write_settings

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class WebSetup:
    """What is set. key: as `key_state` says it."""

    settings: WebSettings
    key: str
    file: Path

    def to_json(self) -> dict[str, Any]:
        settings = self.settings
        service = SERVICES.get(settings.service)
        return {
            "search": settings.service or None,
            "base_url": settings.base_url or (service.base_url or None if service is not None else None),
            "command": list(settings.command),
            "key": self.key,
            "key_env": settings.key_env,
            "fetch": settings.fetch,
            "file": str(self.file),
        }


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """What a search from the terminal came to."""

    service: str
    hits: Sequence[WebHit]

    def to_json(self) -> dict[str, Any]:
        rows = [{"title": hit.title, "url": hit.url, "snippet": hit.snippet, "page_age": hit.age} for hit in self.hits]
        return {"search": self.service, "results": rows}


def shown(home: Home) -> WebSetup:
    """Raises BadInput."""
    settings = read_settings(home)
    return WebSetup(settings, key_state(home, settings), home.web)


def use(
    home: Home,
    service: str,
    arguments: Sequence[str],
    ask: AskUser,
    *,
    base_url: str | None = None,
    key_stdin: bool = False,
    key_env: str | None = None,
) -> WebSetup:
    """arguments: the address of a SearXNG, the words of a command. Raises BadInput; then nothing has changed."""
    new = WebSettings(service=service, fetch=_former(home).fetch)
    if service == "command":
        new = msgspec.structs.replace(new, command=_command(arguments))
    elif service == "searxng":
        if len(arguments) > 1:
            raise BadInput("a SearXNG has one address", next=command_line("web-search", "use", "searxng", "URL"))
        base_url = base_url or (arguments[0] if arguments else ask("Address of your SearXNG, such as http://host:8080"))
    elif arguments:
        raise BadInput(f"{service} takes no further words", next=command_line("web-search", "use", service))
    if service != "command" and base_url is not None:
        new = msgspec.structs.replace(new, base_url=_base_url(base_url))
    key: str | None = None
    if SERVICES[service].needs_key:
        key, key_env = _key(service, ask, key_stdin, key_env)
        new = msgspec.structs.replace(new, key_env=key_env)
    elif key_stdin or key_env is not None:
        raise BadInput(f"{service} takes no key", next=command_line("web-search", "use", service, *arguments))
    if key is not None:
        write_private(key_file(home, service), f"{key}\n".encode("latin-1", "replace"))
    write_settings(home, new)
    _forget_keys(home, but=service if key is not None else "")
    return shown(home)


def off(home: Home) -> WebSetup:
    """Ends searches and deletes the key; whether pages are fetched stays as it is."""
    write_settings(home, WebSettings(fetch=_former(home).fetch))
    _forget_keys(home)
    return shown(home)


def set_fetch(home: Home, on: bool) -> WebSetup:
    write_settings(home, msgspec.structs.replace(read_settings(home), fetch=on))
    return shown(home)


def try_search(home: Home, query: str) -> SearchTrial:
    """One search as the proxy would make it, from here. Raises StackError."""
    settings = read_settings(home)
    if not settings.service:
        raise NotSo("no back end searches the web for this stack", next=command_line("web-search", "use", "--help"))
    query = " ".join(query.split())
    if not query or len(query) > most("web_query"):
        raise BadInput(f"a query has 1 to {most('web_query')} characters")
    offline = read(load(catalog_texts(home))).offline
    back_end = SearchBackEnd(settings, _stored_key(home, settings), offline)
    try:
        hits = asyncio.run(back_end.search(SearchWish(query, DomainRules())))
    except WebRefused as refused:
        what = refused.sentence.replace(f"; {trial()} tries it", "").rstrip(".")  # this is the trial
        where = f"it is asked at {settings.base_url}" if settings.base_url else ""
        raise NotSo(what, why=where, next=command_line("web-search", "show")) from None
    return SearchTrial(settings.service, hits)


def _former(home: Home) -> WebSettings:
    """A file that cannot be read is written anew."""
    try:
        return read_settings(home)
    except BadInput:
        return WebSettings()


def _command(words: Sequence[str]) -> tuple[str, ...]:
    example = f"{command_line('web-search', 'use', 'command')} -- PROGRAM ARGUMENTS"
    if not words:
        raise BadInput("there is no command", next=example)
    program = shutil.which(str(Path(words[0]).expanduser()))
    if program is None:
        raise BadInput(f"{words[0]} is no program that can be run", next=example)
    return (str(Path(program).absolute()), *words[1:])  # the proxy runs in another folder


def _base_url(url: str) -> str:
    url = url.strip().rstrip("/").removesuffix("/search").rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise BadInput(
            "that is no address of a back end", why="it has http or https, a host, and neither password nor query",
            next=command_line("web-search", "use", "searxng", "http://127.0.0.1:8888"),
        )  # fmt: skip
    return url


def _key(service: str, ask: AskUser, key_stdin: bool, key_env: str | None) -> tuple[str | None, str | None]:
    """(key to store, variable that has it): one of them."""
    again = command_line("web-search", "use", service)
    if key_stdin and key_env is not None:
        raise BadInput("a key comes from one place", next="one of --key-stdin, --key-env")
    if key_env is not None:
        if not _VARIABLE.match(key_env):
            raise BadInput("--key-env takes the name of a variable, not a key", next=f"{again} --key-stdin")
        return None, key_env
    text = sys.stdin.readline() if key_stdin else ask(f"Key for {service} (it is not shown)", secret=True)
    return one_line_key(text, again), None


def _forget_keys(home: Home, but: str = "") -> None:
    for name in SERVICES:
        if name != but:
            key_file(home, name).unlink(missing_ok=True)


def _stored_key(home: Home, settings: WebSettings) -> str:
    if settings.key_env is not None:
        value = os.environ.get(settings.key_env, "").strip()
        if not value:
            raise MissingPart(f"the environment variable {settings.key_env} is not set here")
        return value
    path = key_file(home, settings.service)
    return read_secret(path).decode("latin-1") if SERVICES[settings.service].needs_key else ""
