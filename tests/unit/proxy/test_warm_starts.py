"""Which requests pass through the warm start: those to the stack's own server, and no others."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from llmstack.catalog.routes import parse, resolve
from llmstack.paths import Home
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.slot_server import HttpSlotServer
from llmstack.proxy.upstreams import Upstreams
from llmstack.proxy.warm_starts import WarmStarts
from llmstack.warmstart.interface import SlotError, SlotServer, silent

CATALOG = """
[upstreams.local]
kind = "llama-server"
[upstreams.other]
kind = "llama-server"
base_url = "http://127.0.0.1:9999"
[upstreams.cloud]
kind = "openai"
base_url = "https://cloud.example"
"""
LOCAL_ELSEWHERE = CATALOG.replace('kind = "llama-server"\n[', 'kind = "llama-server"\nbase_url = "http://gpu:1"\n[', 1)


def upstreams(tmp_path: Path, catalog: str = CATALOG) -> Upstreams:
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()
    live = LiveConfig(home, silent)
    live.routing = parse(catalog)
    return cast(Upstreams, SimpleNamespace(live=live, deaths=EngineDeaths(None, silent)))


def passes_by(catalog: str, name: str, tmp_path: Path) -> bool:
    connections = upstreams(tmp_path, catalog)
    target = resolve(name, connections.live.routing.upstreams[name], None)
    body: dict[str, Any] = {"messages": []}
    return isinstance(WarmStarts(connections, silent).prefix_ready(target, body, ""), nullcontext)


@pytest.mark.parametrize(("name", "by"), [("local", False), ("other", True), ("cloud", True)])
def test_only_the_stacks_own_server_is_kept_warm(name: str, by: bool, tmp_path: Path) -> None:
    assert passes_by(CATALOG, name, tmp_path) is by


def test_a_server_that_is_called_local_but_is_elsewhere_is_not_ours(tmp_path: Path) -> None:
    assert passes_by(LOCAL_ELSEWHERE, "local", tmp_path)
    assert HttpSlotServer(upstreams(tmp_path, LOCAL_ELSEWHERE), "local").running() is None


def test_nothing_runs_before_the_first_up_and_a_damaged_record_is_no_server(tmp_path: Path) -> None:
    connections = upstreams(tmp_path)
    server: SlotServer = HttpSlotServer(connections, "local")
    assert server.running() is None
    connections.live.home.stack.write_text("{")
    assert server.running() is None


class Answers:
    """What a server answers, whatever it is asked: bytes, of a stream or whole."""

    deaths = EngineDeaths(None, silent)

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.status = 200
        self.content = self

    async def readany(self) -> bytes:
        data, self.data = self.data, b""
        return data

    async def json(self, *_: Any) -> Any:
        return msgspec.json.decode(self.data)

    async def post(self, *_: Any) -> Answers:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.data

    def lost(self, *_: Any) -> None:
        return None

    def session(self) -> Answers:
        return self

    def get(self, *_: Any, **__: Any) -> nullcontext[Answers]:
        return nullcontext(self)

    def address(self, target: Any) -> str:
        return "http://here"

    def headers(self, target: Any) -> dict[str, str]:
        return {}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "data",
    [b"[1]", b"3", b"null", b'{"prompt": "", "tokens": [-1]}', b'{"n_saved": "x", "n_restored": {}}', b'"\xff"'],
)
@pytest.mark.parametrize("call", ["slots", "tokens", "save", "restore"])
def test_an_answer_of_a_wrong_shape_is_a_refusal_of_the_server(data: bytes, call: str, tmp_path: Path) -> None:
    target = resolve("local", parse(CATALOG).upstreams["local"], None)
    server = HttpSlotServer(cast(Upstreams, Answers(data)), "local", target)
    calls: dict[str, Any] = {
        "slots": server.slots,
        "tokens": lambda: server.tokens({}),
        "save": lambda: server.save(0, "a"),
        "restore": lambda: server.restore(0, "a"),
    }
    with pytest.raises(SlotError):
        asyncio.run(calls[call]())


@pytest.mark.parametrize(
    "data", [b"[1]", b'{"stop": true}', b'{"prompt_progress": 1}', b"{", b'"\xff"', b"x" * 20_000_000]
)
def test_a_prefill_that_answers_something_else_is_a_refusal_too(data: bytes, tmp_path: Path) -> None:
    target = resolve("local", parse(CATALOG).upstreams["local"], None)
    server = HttpSlotServer(cast(Upstreams, Answers(b"data: " + data + b"\n\n")), "local", target)
    with pytest.raises(SlotError):
        asyncio.run(server.prefill(array("I", [1]), lambda *_: None))
