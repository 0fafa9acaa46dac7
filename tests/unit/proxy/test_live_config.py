"""The files the proxy reads while it runs: each change is seen, and a bad file keeps what was good."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmstack.catalog.routes import Target
from llmstack.errors import BadInput, MissingPart
from llmstack.paths import Home
from llmstack.protocol.errors import Refused
from llmstack.proxy.app import Proxy
from llmstack.proxy.gate import Policy
from llmstack.proxy.live_config import LiveConfig, read_secret
from llmstack.proxy.report import Reporter

RECORD: dict[str, Any] = {
    "model": {"name": "demo", "path": "/demo.gguf"},
    "server": {"host": "127.0.0.1", "port": 8080},
    "n_ctx": 65536,
    "n_ctx_slot": 32768,
    "n_predict": 4096,
    "capabilities": {"vision": True},
}


class Files:
    def __init__(self, root: Path) -> None:
        self.home = Home(root / "config", root / "state", root / "data", root / "cache").make()
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.changes = 0
        self._ticks = 0
        self.secret(self.home.token, "first")

    def write(self, path: Path, text: str) -> None:
        """A new file each time, as every writer here makes one; its time differs whatever the clock's tick is."""
        new = path.with_suffix(".new")
        new.write_text(text)
        self._ticks += 1
        os.utime(new, ns=(self._ticks, self._ticks))
        new.replace(path)

    def secret(self, path: Path, text: str, mode: int = 0o600) -> None:
        self.write(path, text + "\n")
        path.chmod(mode)

    def deploy(self, **fields: Any) -> None:
        self.write(self.home.stack, json.dumps({**RECORD, **fields}))

    def start(self) -> LiveConfig:
        live = LiveConfig(self.home, lambda event, fields: self.log.append((event, fields))).start()
        live.changed = self._count
        return live

    def _count(self) -> None:
        self.changes += 1


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def local(live: LiveConfig) -> Target:
    route = live.choose("anything")
    assert route is not None and route.targets[0].is_local
    return route.targets[0]


def test_the_server_is_what_is_deployed_now(files: Files) -> None:
    live = files.start()
    target = local(live)
    assert live.server is None and live.base_url(target) is None and live.context(target) is None
    assert not live.sees(target)
    files.deploy()
    live.refresh()
    assert live.base_url(target) == "http://127.0.0.1:8080"
    assert (live.context(target), live.max_output(target), live.sees(target)) == (32768, 4096, True)
    files.deploy(server={"host": "::1", "port": 1}, n_ctx_slot=0, n_predict=-1)
    live.refresh()
    assert live.base_url(target) == "http://[::1]:1"
    assert (live.context(target), live.max_output(target)) == (65536, None)
    files.home.stack.unlink()
    live.refresh()
    assert live.server is None and files.changes == 3


def test_a_record_that_cannot_be_read_keeps_the_old_one(files: Files) -> None:
    files.deploy()
    live = files.start()
    files.write(files.home.stack, "{ half a rec")
    live.refresh()
    assert live.server is not None and live.server.model == "demo"
    assert files.log[-1][0] == "stack" and files.log[-1][1]["result"] == "kept the old record"


def test_bytes_that_are_no_text_or_a_folder_keep_the_old_one(files: Files) -> None:
    files.deploy()
    live = files.start()
    files.home.stack.write_bytes(json.dumps(RECORD).encode().replace(b"demo", b"\xff\xfe"))
    files.home.catalog.write_bytes(b"# \xff")
    live.refresh()
    assert [fields["result"] for _, fields in files.log] == ["kept the old ones", "kept the old record"]
    files.home.stack.unlink()
    files.home.stack.mkdir()
    live.refresh()
    assert files.log[-1][1]["result"] == "kept the old record"
    assert live.server is not None and live.server.model == "demo"


def test_a_pass_that_fails_is_logged_and_the_next_one_comes(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    live = files.start()
    proxy = Proxy(live, Policy(port=5000), Reporter(log))

    def broken(self: LiveConfig) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(LiveConfig, "refresh", broken)
        proxy.refresh_once()
    assert '"fault"' in log.getvalue() and "RuntimeError" in log.getvalue()
    files.deploy()
    proxy.refresh_once()
    assert live.server is not None


def test_routes_are_read_again_and_bad_ones_keep_the_old(files: Files) -> None:
    live = files.start()
    shipped = len(live.routing.routes)
    files.write(files.home.catalog, '[[routes]]\nmatch = "mine"\nupstream = "local"\n')
    live.refresh()
    assert len(live.routing.routes) == shipped + 1 and live.problem is None
    assert files.log[-1] == ("routes", {"result": "reloaded", "routes": shipped + 1})
    files.write(files.home.catalog, '[[routes]]\nmatch = "mine"\nupstream = "nobody"\n')
    live.refresh()
    assert len(live.routing.routes) == shipped + 1 and "nobody" in (live.problem or "")
    lines = len(files.log)
    live.refresh()
    assert len(files.log) == lines, "it says so once"
    files.home.catalog.unlink()
    live.refresh()
    assert len(live.routing.routes) == shipped and live.problem is None
    assert files.changes == 2


def test_a_bad_models_toml_does_not_keep_the_proxy_from_starting(files: Files) -> None:
    files.write(files.home.catalog, "offline = 3\n")
    live = files.start()
    assert "offline" in (live.problem or "") and local(live).name == "local"


def test_the_token_is_read_again_and_one_that_others_can_read_is_not_taken(files: Files) -> None:
    live = files.start()
    assert live.token == b"first"
    files.secret(files.home.token, "second")
    live.refresh()
    assert live.token == b"second"
    files.secret(files.home.token, "third", mode=0o644)
    live.refresh()
    assert live.token == b"second" and files.log[-1][1]["result"] == "kept the old one"


def test_without_a_token_there_is_no_proxy(files: Files) -> None:
    files.home.token.unlink()
    with pytest.raises(MissingPart):
        files.start()


def test_the_servers_own_key_goes_to_the_local_server_alone(files: Files) -> None:
    overlay = (
        '[upstreams.far]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1/"\napi_key_file = "far"\n'
        '[[routes]]\nmatch = "far"\nupstream = "far"\n'
    )
    files.write(files.home.catalog, overlay)
    live = files.start()
    assert live.key(local(live)) is None
    files.secret(files.home.server_key, "the server's")
    assert live.key(local(live)) == "the server's"
    route = live.choose("far")
    assert route is not None
    far = route.targets[0]
    assert live.base_url(far) == "http://127.0.0.1:9" and live.sees(far) and live.context(far) is None
    with pytest.raises(MissingPart):
        live.key(far)
    files.secret(files.home.config / "far", "one")
    assert live.key(far) == "one"
    files.secret(files.home.config / "far", "another")
    assert live.key(far) == "another"


def test_offline_leaves_nobody_to_ask_elsewhere(files: Files) -> None:
    far = '[upstreams.far]\nkind = "openai"\nbase_url = "https://far.example"\n'
    files.write(files.home.catalog, f'offline = true\n{far}[[routes]]\nmatch = "far"\nupstream = "far"\n')
    live = files.start()
    with pytest.raises(Refused, match="far is not on this machine"):
        live.choose("far")
    assert local(live)


@pytest.mark.parametrize("text", ["", "two\nlines"])
def test_a_secret_is_one_line(files: Files, text: str) -> None:
    files.secret(files.home.token, text)
    with pytest.raises(BadInput, match="one line"):
        read_secret(files.home.token)
