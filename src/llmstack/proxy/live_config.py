"""The files the proxy reads while it runs: models.toml, what is deployed, the token, the keys.

Each is read again when its inode, size or time changes. A bad file keeps the last good state and says so once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from llmstack import stackfile
from llmstack.access.book import KeyBook, read_book
from llmstack.catalog.overlay import load
from llmstack.catalog.routes import RouteChoice, Routing, Target, read
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, StackError
from llmstack.paths import Home, catalog_texts
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused
from llmstack.stackfile import RunningServer
from llmstack.web_settings import WebSettings, key_file, read_settings

_Signature = tuple[int, int, int] | None


def read_secret(path: Path) -> bytes:
    """A secret of one line. Raises BadInput when others could read it, MissingPart when it is not there (fault 32)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingPart(f"there is no {path}", next=command_line("up", "--proxy-only")) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read", why=error.strerror or str(error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is no plain file")
        if status.st_uid != os.geteuid():
            raise BadInput(f"{path} belongs to another user", next=f"remove {path}, then: {command_line('up')}")
        if status.st_mode & 0o077:
            raise BadInput(f"{path} can be read by other users", next=f"chmod 600 {path}")
        value = os.read(descriptor, 65536).strip()
    finally:
        os.close(descriptor)
    if not value or b"\n" in value:
        raise BadInput(f"{path} must hold one line", next=f"remove {path}, then: {command_line('up')}")
    return value


def _signature(path: str | Path) -> _Signature:
    try:
        status = os.stat(path)  # noqa: PTH116  # at each request, of several files: Path.stat costs three times as much
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class LiveConfig:
    """routing, server, token and the keys of others as they are now; server: what is deployed, None for nothing. web:
    who searches the web.

    problem: what is wrong with the user's models.toml. changed: called when routes or server are new; deployed: when
    the server is.
    """

    home: Home
    log_event: Callable[[str, dict[str, Any]], None]
    routing: Routing = field(init=False)
    server: RunningServer | None = None
    token: bytes = b""
    keys: KeyBook = field(default_factory=KeyBook)
    web: WebSettings = field(default_factory=WebSettings)
    problem: str | None = None
    _files: Mapping[str, str] = field(init=False)  # what is looked at, by name
    _seen: dict[str, _Signature] = field(default_factory=dict)
    _secrets: dict[Path, tuple[_Signature, bytes]] = field(default_factory=dict)
    changed: Callable[[], None] | None = None
    deployed: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        home = self.home
        watched = {"token": home.token, "keys": home.client_keys, "web": home.web, "catalog": home.catalog}
        self._files = {name: str(path) for name, path in {**watched, "stack": home.stack}.items()}

    def start(self) -> LiveConfig:
        """Reads everything for the first time. Raises StackError when it cannot serve."""
        self.token = read_secret(self.home.token)
        self._look("token")
        self._look("catalog")
        try:
            self.routing = read(load(catalog_texts(self.home)))
        except BadInput as error:
            # The stack comes up with what was shipped: the local server works whatever the user's file says.
            self.routing = read(load(catalog_texts(self.home, with_user=False)))
            self._bad(error)
        self._read_keys()
        self._read_web()
        self._read_server()
        return self

    def refresh(self) -> None:
        """Looks at each file; a few stat calls when nothing changed."""
        if self._changed("token"):
            try:
                self.token = read_secret(self.home.token)
                self.log_event("token", {"result": "reloaded"})
            except StackError as error:
                self.log_event("token", {"result": "kept the old one", "why": error.what})
        if self._changed("keys"):
            self._read_keys()
        if self._changed("web"):
            self._read_web()
        if self._changed("catalog"):
            try:
                self.routing = read(load(catalog_texts(self.home)))
                self.problem = None
                self.log_event("routes", {"result": "reloaded", "routes": len(self.routing.routes)})
                if self.changed is not None:
                    self.changed()
            except BadInput as error:
                self._bad(error)
        self.refresh_server()

    def refresh_server(self) -> None:
        """Looks at the record of what is deployed alone; one stat call when it did not change."""
        if self._changed("stack"):
            self._read_server()
            for heard in (self.changed, self.deployed):
                if heard is not None:
                    heard()

    def _look(self, name: str) -> None:
        self._seen[name] = _signature(self._files[name])

    def _changed(self, name: str) -> bool:
        now = _signature(self._files[name])
        if self._seen.get(name, None) == now:
            return False
        self._seen[name] = now
        return True

    def _bad(self, error: BadInput) -> None:
        self.problem = f"{error.what}{': ' + error.why if error.why else ''}"
        self.log_event("routes", {"result": "kept the old ones", "why": self.problem})

    def _read_keys(self) -> None:
        """A file that cannot be used lets nobody in whom it did not let in before; the owner's token always counts."""
        self._look("keys")
        try:
            self.keys = read_book(self.home)
            if self.keys.keys:
                self.log_event("keys", {"result": "read", "keys": len(self.keys.keys)})
        except BadInput as error:
            self.log_event("keys", {"result": "kept the old ones", "why": error.what})

    def _read_web(self) -> None:
        self._look("web")
        try:
            self.web = read_settings(self.home)
            if self._seen["web"] is not None:
                self.log_event("web", {"result": "read", "search": self.web.service or "off", "fetch": self.web.fetch})
        except BadInput as error:
            self.log_event("web", {"result": "kept the old settings", "why": error.why})

    def _read_server(self) -> None:
        self._look("stack")
        try:
            self.server = stackfile.decode(self.home.stack.read_bytes()).running_server()
        except FileNotFoundError:
            self.server = None
        except (OSError, msgspec.DecodeError) as error:
            self.log_event("stack", {"result": "kept the old record", "why": str(error)})

    # ---- what a request needs ---------------------------------------------------------------------------

    def choose(self, model: str) -> RouteChoice | None:
        """Raises Refused (403) when `offline` leaves nobody to ask."""
        choice = self.routing.choose(model)
        if choice is not None and not choice.targets:
            why = f"{', '.join(choice.refused)} is not on this machine, and models.toml says offline = true"
            raise Refused(
                Failure(
                    FailureKind.PERMISSION,
                    f"{why}; `{command_line('upstream', 'offline', 'off')}` allows it",
                    Cause.UPSTREAM,
                )
            )
        return choice

    def base_url(self, target: Target) -> str | None:
        """Without a trailing slash or /v1; None when the local server is not deployed."""
        if target.base_url is not None:
            return target.base_url.rstrip("/").removesuffix("/v1")
        return self.server.url if self.server is not None else None

    def key(self, target: Target) -> str | None:
        """The key for an upstream. Raises StackError when it is configured and cannot be read."""
        if target.api_key_file is not None:
            path = self.home.config / Path(target.api_key_file).expanduser()
            if not path.exists():
                raise MissingPart(f"there is no {path}", next=command_line("upstream", "add", target.name))
            return self._secret(path).decode("latin-1")
        if target.api_key_env is not None:
            value = os.environ.get(target.api_key_env)
            if not value:
                raise MissingPart(
                    f"the environment variable {target.api_key_env} is not set where the proxy runs",
                    next=command_line("upstream", "add", target.name),
                )
            return value.strip()
        if target.is_local and _signature(self.home.server_key):
            return self._secret(self.home.server_key).decode("latin-1")
        return None

    def web_key(self) -> str:
        """The key of the back end that searches; "" where none is stored. Raises StackError when it cannot be read."""
        settings = self.web
        if settings.key_env is not None:
            value = os.environ.get(settings.key_env, "").strip()
            if not value:
                raise MissingPart(f"the environment variable {settings.key_env} is not set where the proxy runs")
            return value
        path = key_file(self.home, settings.service)
        return self._secret(path).decode("latin-1") if _signature(path) else ""

    def secrets(self) -> list[str]:
        """What must never be shown: this home's token, and the keys that were read."""
        named = {target.api_key_env for target in self.routing.upstreams.values() if target.api_key_env}
        named |= {self.web.key_env} if self.web.key_env else set()
        from_environment = (os.environ.get(name, "").strip().encode("latin-1", "replace") for name in sorted(named))
        values = [self.token, *(value for _, value in self._secrets.values()), *from_environment]
        return [value.decode("latin-1") for value in values if value]

    def _secret(self, path: Path) -> bytes:
        now = _signature(path)
        entry = self._secrets.get(path)
        if entry is None or entry[0] != now:
            entry = (now, read_secret(path))
            self._secrets[path] = entry
        return entry[1]

    def context(self, target: Target) -> int | None:
        """Tokens one request may have in all, where that is known."""
        if target.context is not None:
            return target.context
        if target.is_local and self.server is not None:
            return self.server.n_ctx_slot or None
        return None

    def max_output(self, target: Target) -> int | None:
        """Tokens the longest answer may have, where that is known."""
        if target.max_output is not None:
            return target.max_output
        if target.is_local and self.server is not None and self.server.n_predict > 0:
            return self.server.n_predict
        return None

    def sees(self, target: Target) -> bool:
        """Whether the model behind a target takes images; of a foreign server it is assumed."""
        if target.is_local:
            return self.server is not None and self.server.vision
        return True
