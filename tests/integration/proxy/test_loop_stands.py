"""Nothing that comes from outside stops the loop for long: the watch's own figure, after each kind of input.

The figure is that of the CPU time the loop's thread used in one go, so that a busy machine does not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fuzz import grown
from support.proxy_stand import ProxyStand, ask, standing
from support.upstream import Upstream

MOST_S = 0.25
BUSY = 'llmstack_loop_stood_longest_seconds{why="busy"}'
READ = {
    "name": "t",
    "input_schema": {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}},
}


@pytest.fixture
def stand(tmp_path: Path, upstream: Upstream) -> Iterator[ProxyStand]:
    """A proxy of its own for each input: the figure is the longest since the start."""
    with standing(tmp_path / "home", upstream.port) as running:
        yield running


def longest_s(stand: ProxyStand) -> float:
    lines = stand.get("/metrics").data.decode().splitlines()
    return max(float(line.split()[-1]) for line in lines if line.startswith(BUSY))


def deltas(text: str, size: int) -> list[bytes]:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return [f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n".encode() for piece in pieces]


END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


TEXTS: dict[str, tuple[str, int]] = {
    "a parameter with 20,000 closings": ("<function=t><parameter=a>" + "</parameter>" * 20_000, 40),
    "the same in one piece": ("<function=t><parameter=a>" + "</parameter>" * 20_000, 1 << 22),
    "a call left open for 3 MB": ('<tool_call>{"name":"t","arguments":{"b":"' + "x" * 3_000_000, 400),
    "marks that are none": ("<tool_call>" * 200_000, 1 << 22),
    "open calls": ("<tool_call>{" * 80_000 + "</tool_call>", 1 << 22),
    "blanks": (" " * 3_000_000, 300),
    "a bare object": ('{"name":"t","arguments":{"b":"' + "}" * 900_000, 300),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_models_text_does_not_stop_the_loop(name: str, stand: ProxyStand, upstream: Upstream) -> None:
    text, size = TEXTS[name]
    pieces = deltas(text, size)

    async def script(asked: Any, wire: Any) -> None:
        await wire.stream(*[b"".join(pieces[start : start + 50]) for start in range(0, len(pieces), 50)], END)

    upstream.script = script
    answer = stand.post(ask(tools=[READ]), timeout_s=120)
    assert answer.status == 200 and answer.events[-1][0] == "message_stop"
    assert longest_s(stand) < MOST_S, [line for line in stand.log if line["event"] == "stood"]


def piece(index: int, name: str | None, arguments: str) -> bytes:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    delta = {"tool_calls": [{"index": index, "function": function}]}
    return f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()


CALLS: dict[str, Callable[[], list[bytes]]] = {
    "arguments of 3 MB": lambda: [piece(0, "t", '{"b":"'), *[piece(0, None, "x" * 300)] * 10_000],
    "arguments in quotes": lambda: [piece(0, "t", '"{'), *[piece(0, None, " " * 300)] * 10_000],
    "arguments in one piece": lambda: [piece(0, "t", "{" + '"b":1,' * 100_000)],
    "text beside an open call": lambda: [piece(0, "t", '{"b":"'), *[piece(0, None, "xx") + deltas("w", 9)[0]] * 10_000],
    "calls without an end": lambda: [piece(number, "t", '{"b":"') for number in range(5_000)],
    "a name without an end": lambda: [piece(0, "n", "")] + [piece(0, f"m{number}", "") for number in range(50_000)],
    "nothing but small events": lambda: [b"data: {}\n\n" * 20_000] * 20,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_models_calls_do_not_stop_the_loop(name: str, stand: ProxyStand, upstream: Upstream) -> None:
    pieces = CALLS[name]()

    async def script(asked: Any, wire: Any) -> None:
        await wire.stream(*[b"".join(pieces[start : start + 50]) for start in range(0, len(pieces), 50)], END)

    upstream.script = script
    answer = stand.post(ask(tools=[READ]), timeout_s=120)
    assert answer.status in (200, 500)
    assert longest_s(stand) < MOST_S, [line for line in stand.log if line["event"] == "stood"]


def results_backwards(count: int) -> dict[str, Any]:
    calls = [{"type": "tool_use", "id": f"c{k}", "name": "t", "input": {}} for k in range(count)]
    results = [{"type": "tool_result", "tool_use_id": f"c{k}", "content": "r"} for k in reversed(range(count))]
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": calls},
        {"role": "user", "content": results},
    ]
    return {**ask(tools=[READ]), "messages": messages}


def padded(inner: bytes) -> bytes:
    return b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"metadata":{"x":' + inner + b"}}"


def tool_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {**ask(), "tools": [{"name": "t", "input_schema": schema}]}


BODIES: dict[str, Callable[[], Any]] = {
    "10,000 results in reverse order": lambda: results_backwards(10_000),
    "12,000 results in reverse order": lambda: results_backwards(11_900),
    "25,000 results in reverse order": lambda: results_backwards(25_000),
    "system messages": lambda: {
        **ask(),
        "messages": [*results_backwards(1)["messages"], *[{"role": "system", "content": "s" * 1000}] * 19_000],
    },
    "30 MB of lists": lambda: padded(b"[" + b"[]," * 10_000_000 + b"1]"),
    "30 MB of text": lambda: padded(b'"' + b"x" * 30_000_000 + b'"'),
    "a tool of many values": lambda: tool_of({"properties": {f"p{k}": {"type": "array"} for k in range(20_000)}}),
    "a schema that is too large": lambda: tool_of({"enum": list(range(400_000))}),
    "a system text of 20 MB": lambda: {**ask(tools=[READ]), "system": "word / path /a/b/c d\n" * 1_000_000},
    "200,000 messages": lambda: {**ask(), "messages": [{"role": "user", "content": "x"}] * 200_000},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_request_does_not_stop_the_loop(name: str, stand: ProxyStand, upstream: Upstream) -> None:
    answer = stand.post(BODIES[name](), timeout_s=120)
    assert answer.status == 200 or (answer.status == 400 and says_why(answer.json["error"]["message"])), answer.data
    assert longest_s(stand) < MOST_S, [line for line in stand.log if line["event"] == "stood"]


def says_why(message: str) -> bool:
    return "more than" in message or message.startswith("prompt is too long")


def test_interim_answers_without_an_end_are_given_up(stand: ProxyStand, upstream: Upstream) -> None:
    async def script(asked: Any, wire: Any) -> None:
        for _ in range(200):
            wire.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
            await wire.writer.drain()

    upstream.script = script
    answer = stand.post(ask(), timeout_s=60)
    assert answer.status in (500, 529) and "interim answers" in answer.json["error"]["message"]
    assert longest_s(stand) < MOST_S


def test_an_error_of_any_length_is_cut_before_it_is_searched(stand: ProxyStand, upstream: Upstream) -> None:
    async def script(asked: Any, wire: Any) -> None:
        text = "maximum context length is 1 tokens " * 100_000
        await wire.stream(b'data: {"error":{"message":"%b"}}\n\n' % text.encode())

    upstream.script = script
    answer = stand.post(ask(), timeout_s=60)
    assert answer.status >= 400 and len(answer.data) < 4000
    assert longest_s(stand) < MOST_S


def test_no_grown_request_stops_the_loop(stand: ProxyStand, upstream: Upstream) -> None:
    """By seed: whatever part of a request is repeated to megabytes."""
    for seed in range(60):
        path, data = grown.body(seed)
        answer = stand.post(data, path, timeout_s=120)
        assert answer.status in (200, 400, 413), (seed, answer.status, answer.data[:300])
        assert longest_s(stand) < MOST_S, (seed, path, len(data), [e for e in stand.log if e["event"] == "stood"])


def test_no_grown_text_of_a_model_stops_the_loop(stand: ProxyStand, upstream: Upstream) -> None:
    pieces: list[bytes] = []

    async def script(asked: Any, wire: Any) -> None:
        await wire.stream(*[b"".join(pieces[start : start + 50]) for start in range(0, len(pieces), 50)], END)

    upstream.script = script
    for seed in range(40):
        pieces[:] = [deltas(piece, len(piece))[0] for piece in grown.pieces(seed)]
        answer = stand.post(ask(tools=[READ]), timeout_s=120)
        assert answer.status == 200 and answer.events[-1][0] == "message_stop", seed
        assert longest_s(stand) < MOST_S, (seed, [e for e in stand.log if e["event"] == "stood"])
