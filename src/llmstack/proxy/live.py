"""The files the proxy reads while it runs: models.toml, what is deployed, the token and the keys.

Each is read again when its inode, size or time changes. A bad file keeps the last good state and says so once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from llmstack.catalog.overlay import load
from llmstack.catalog.routes import Choice, Routing, Target, read
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, StackError
from llmstack.paths import Home, catalog_texts
from llmstack.protocol.errors import Cause, Failure, Kind, Refused

_Signature = tuple[int, int, int] | None


class Address(msgspec.Struct):
    host: str = "127.0.0.1"
    port: int = 8080


class Model(msgspec.Struct):
    name: str = "local"
    path: str = ""


class Deployed(msgspec.Struct):
    """home.stack, written by `deploy` on `up`. Tokens: n_ctx in all, n_ctx_slot for one request."""

    model: Model = msgspec.field(default_factory=Model)
    server: Address = msgspec.field(default_factory=Address)
    n_ctx: int = 0
    n_ctx_slot: int = 0
    n_parallel: int = 1
    n_predict: int | None = None
    capabilities: dict[str, Any] = {}

    @property
    def context(self) -> int:
        return self.n_ctx_slot or self.n_ctx

    @property
    def vision(self) -> bool:
        return bool(self.capabilities.get("vision"))


def read_secret(path: Path) -> bytes:
    """A secret of one line. Raises BadInput when others could read it, MissingPart when it is not there (fault 32)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingPart(f"there is no {path}", next=command_line("up")) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read", why=error.strerror or str(error)) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{path} is no plain file")
        if found.st_uid != os.geteuid():
            raise BadInput(f"{path} belongs to another user", next=f"remove {path}, then: {command_line('up')}")
        if found.st_mode & 0o077:
            raise BadInput(f"{path} can be read by other users", next=f"chmod 600 {path}")
        value = os.read(descriptor, 65536).strip()
    finally:
        os.close(descriptor)
    if not value or b"\n" in value:
        raise BadInput(f"{path} must hold one line", next=f"remove {path}, then: {command_line('up')}")
    return value


def _signature(path: Path) -> _Signature:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(slots=True)
class Live:
    """routing, deployed and token as they are now. say(event, fields) tells what changed or is wrong."""

    home: Home
    say: Callable[[str, dict[str, Any]], None]
    routing: Routing = field(init=False)
    deployed: Deployed | None = None
    token: bytes = b""
    problem: str | None = None
    _seen: dict[str, _Signature] = field(default_factory=dict)
    _secrets: dict[Path, tuple[_Signature, bytes]] = field(default_factory=dict)
    changed: Callable[[], None] | None = None

    def start(self) -> Live:
        """Reads everything for the first time. Raises StackError when it cannot serve."""
        self.token = read_secret(self.home.token)
        self._seen["token"] = _signature(self.home.token)
        self._seen["catalog"] = _signature(self.home.catalog)
        try:
            self.routing = read(load(catalog_texts(self.home)))
        except BadInput as error:
            # The stack comes up with what was shipped: the local server works whatever the user's file says.
            self.routing = read(load(catalog_texts(self.home, with_user=False)))
            self._bad(error)
        self._read_deployed()
        return self

    def refresh(self) -> None:
        """Looks at each file; a few stat calls when nothing changed."""
        if self._changed("token", self.home.token):
            try:
                self.token = read_secret(self.home.token)
                self.say("token", {"result": "reloaded"})
            except StackError as error:
                self.say("token", {"result": "kept the old one", "why": error.what})
        if self._changed("catalog", self.home.catalog):
            try:
                self.routing = read(load(catalog_texts(self.home)))
                self.problem = None
                self.say("routes", {"result": "reloaded", "routes": len(self.routing.routes)})
                if self.changed is not None:
                    self.changed()
            except BadInput as error:
                self._bad(error)
        if self._changed("stack", self.home.stack):
            self._read_deployed()
            if self.changed is not None:
                self.changed()

    def _changed(self, name: str, path: Path) -> bool:
        now = _signature(path)
        if self._seen.get(name, None) == now:
            return False
        self._seen[name] = now
        return True

    def _bad(self, error: BadInput) -> None:
        self.problem = f"{error.what}{': ' + error.why if error.why else ''}"
        self.say("routes", {"result": "kept the old ones", "why": self.problem})

    def _read_deployed(self) -> None:
        self._seen["stack"] = _signature(self.home.stack)
        try:
            self.deployed = msgspec.json.decode(self.home.stack.read_bytes(), type=Deployed)
        except FileNotFoundError:
            self.deployed = None
        except (OSError, msgspec.DecodeError) as error:
            self.say("stack", {"result": "kept the old record", "why": str(error)})

    # ---- what a request needs ---------------------------------------------------------------------------

    def choose(self, model: str) -> Choice | None:
        """Raises Refused (403) when `offline` leaves nobody to ask."""
        choice = self.routing.choose(model)
        if choice is not None and not choice.targets:
            why = f"{', '.join(choice.refused)} is not on this machine, and models.toml says offline = true"
            raise Refused(
                Failure(
                    Kind.PERMISSION, f"{why}; `{command_line('upstream', 'offline', 'off')}` allows it", Cause.UPSTREAM
                )
            )
        return choice

    def base_url(self, target: Target) -> str | None:
        """Without a trailing slash or /v1; None when the local server is not deployed."""
        if target.base_url is not None:
            return target.base_url.rstrip("/").removesuffix("/v1")
        if self.deployed is None:
            return None
        host = self.deployed.server.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.deployed.server.port}"

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
        if target.kind == "llama-server" and target.base_url is None and _signature(self.home.server_key):
            return self._secret(self.home.server_key).decode("latin-1")
        return None

    def _secret(self, path: Path) -> bytes:
        now = _signature(path)
        known = self._secrets.get(path)
        if known is None or known[0] != now:
            known = (now, read_secret(path))
            self._secrets[path] = known
        return known[1]

    def context(self, target: Target) -> int | None:
        """Tokens one request may have in all, where that is known."""
        if target.context is not None:
            return target.context
        if target.kind == "llama-server" and target.base_url is None and self.deployed is not None:
            return self.deployed.context or None
        return None

    def max_output(self, target: Target) -> int | None:
        if target.max_output is not None:
            return target.max_output
        if target.kind == "llama-server" and target.base_url is None and self.deployed is not None:
            return self.deployed.n_predict if (self.deployed.n_predict or 0) > 0 else None
        return None

    def sees(self, target: Target) -> bool:
        """Whether the model behind a target takes images; of a foreign server it is assumed."""
        if target.kind == "llama-server" and target.base_url is None:
            return self.deployed is not None and self.deployed.vision
        return True
