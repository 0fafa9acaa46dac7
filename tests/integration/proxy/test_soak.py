"""Ten thousand mixed requests, one in five given up by its client: nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from support.proxy_stand import TOKEN, ProxyStand, ask
from support.streams import DONE, event, finish, text, tool, usage
from support.upstream import Asked, Upstream, Wire
from support.wait import eventually

pytestmark = pytest.mark.timeout(900)  # ten thousand requests

REQUESTS = 10_000
WIDTH = 48
TOOLS = [{"name": "Read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}]


async def mixed(asked: Asked, wire: Wire) -> None:
    """What it does is in the last message: how it answers, or that it keeps silent until its client has gone."""
    if asked.path == "/health":
        await wire.json({})
        return
    kind = asked.json["messages"][-1]["content"].split()[0]
    if kind == "silent":
        await wire.until_gone()
    elif kind == "die":
        await wire.begin()
        await wire.send(text("half"))
        wire.cut()
    elif kind == "error":
        await wire.json({"error": {"message": "no"}}, 500)
    elif kind == "tool":
        await wire.stream(tool(0, None, "Read", '{"path":', '"/a"}') + finish("tool_calls") + DONE)
    elif kind == "endless":
        await wire.begin()
        while not wire.writer.transport.is_closing():
            await wire.send(text("word " * 20))
            await asyncio.sleep(0.005)
    elif kind == "broken":
        await wire.stream(text("a"), event({"error": "broken"}))
    else:
        await wire.stream(text(*"abc") + finish() + usage(9, 3) + DONE)


async def one(port: int, number: int, dice: random.Random, seen: dict[str, int]) -> None:
    leaves = dice.random() < 0.2
    kind = (
        dice.choice(["silent", "endless", "text"])
        if leaves
        else dice.choice(["text"] * 6 + ["tool", "die", "error", "broken"])
    )
    streaming = dice.random() < 0.8
    body = json.dumps(ask(f"{kind} {number}", stream=streaming, tools=TOOLS)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {TOKEN}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"  # noqa: E501
        writer.write(head.encode() + body)
        if leaves:
            await asyncio.sleep(dice.random() * 0.05)
            seen["left"] += 1
            return
        data = await asyncio.wait_for(reader.read(-1), 30)
        _check(kind, streaming, data)
        seen[kind] += 1
    finally:
        transport: Any = writer.transport
        transport.abort()


def _check(kind: str, streaming: bool, data: bytes) -> None:
    status = int(data.split(b" ", 2)[1])
    if streaming and status == 200:
        ends = data.count(b'"type":"message_stop"') + data.count(b'{"type":"error"')
        assert ends == 1, data
        assert (b"message_stop" in data) == (kind in ("text", "tool")), (kind, data)
    elif kind in ("text", "tool"):
        assert status == 200 and (b"tool_use" if kind == "tool" else b"abc") in data
    else:
        assert status >= 500 and b'"type":"error"' in data


async def storm(port: int, count: int, seed: int) -> dict[str, int]:
    dice = random.Random(seed)
    seen: dict[str, int] = dict.fromkeys(("text", "tool", "die", "error", "broken", "left"), 0)
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(port, number + seed * 1_000_000, dice, seen)

    await asyncio.gather(*[worker() for _ in range(WIDTH)])
    return seen


def test_ten_thousand_requests_leave_nothing_behind(stand: ProxyStand, upstream: Upstream) -> None:
    upstream.script = mixed
    asyncio.run(storm(stand.port, 1500, seed=1))
    eventually(lambda: upstream.open <= 1, within_s=15)
    process = stand.usage()
    eventually(lambda: len(process.net_connections()) <= 2, within_s=15)
    descriptors, memory = process.num_fds(), process.memory_info().rss
    upstream.asked.clear()

    seen = asyncio.run(storm(stand.port, REQUESTS, seed=2))

    assert sum(seen.values()) == REQUESTS
    assert 0.18 < seen["left"] / REQUESTS < 0.22 and min(seen.values()) > 300
    eventually(lambda: upstream.open <= 1, within_s=15)
    eventually(lambda: len(process.net_connections()) <= 2, within_s=15)
    assert process.num_fds() <= descriptors + 2
    assert process.memory_info().rss - memory < 8 * 2**20
    shown = stand.get("/metrics").data.decode()
    assert "llmstack_requests_active 1.0" in shown, "only the one that asks for metrics"
    eventually(lambda: "llmstack_requests_waiting 0.0" in stand.get("/metrics").data.decode())
