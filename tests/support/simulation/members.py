"""Upstreams elsewhere, as they answer on good and on bad days."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from support.simulation.network import Asked, Wire

GOOD, BAD = "good", "bad"


def chunk(**delta: Any) -> bytes:
    return sse({"choices": [{"index": 0, "delta": delta}]})


def sse(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def chat_stream(words: list[str], tokens: int, cached: int, *, tool: bool) -> list[bytes]:
    events = [chunk(role="assistant", content=None), *(chunk(content=word) for word in words)]
    if tool:
        call = {"index": 0, "id": "call_1", "function": {"name": "Read", "arguments": '{"path":'}}
        more = {"index": 0, "function": {"arguments": ' "/a"}'}}
        events += [chunk(tool_calls=[call]), chunk(tool_calls=[more])]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if tool else "stop"}]}
    details = {"prompt_tokens": tokens, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": cached}}
    return [*events, sse(end), sse({"choices": [], "usage": details}), b"data: [DONE]\n\n"]


def chat_whole(words: list[str], tokens: int) -> bytes:
    message = {"role": "assistant", "content": "".join(words)}
    usage = {"prompt_tokens": tokens, "completion_tokens": 3}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}).encode()


def anthropic_stream(words: list[str]) -> list[bytes]:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1},
    }  # fmt: skip
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 3},
    }
    values = [
        {"type": "message_start", "message": message}, block, *deltas, {"type": "content_block_stop", "index": 0}, last,
        {"type": "message_stop"},
    ]  # fmt: skip
    return [sse(value, value["type"]) for value in values]


def head(status: int, kind: str, *, length: int | None = None, more: str = "") -> bytes:
    framing = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{framing}\r\n{more}\r\n".encode()


def framed(pieces: list[bytes]) -> list[bytes]:
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


async def reply(wire: Wire, value: Any, status: int = 200, more: str = "") -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    await wire.send(head(status, "application/json", length=len(data), more=more) + data)


async def play(wire: Wire, dice: random.Random, pieces: list[bytes], mood: str, pause: Callable[[], float]) -> None:
    """A stream to its end, or as far as a bad day lets it come: cut at any byte, silent in the middle, or too much."""
    parts = [head(200, "text/event-stream"), *framed(pieces)]
    fate = dice.choice(("whole", "cut", "cut", "mute", "short", "behind", "wrong")) if mood == BAD else "whole"
    if fate == "short":  # it ends cleanly, too early
        parts = [head(200, "text/event-stream"), *framed(pieces[: dice.randrange(len(pieces))])]
    if fate == "behind":  # goes on behind its end
        parts = [head(200, "text/event-stream"), *framed([*pieces, *pieces])]
    if fate == "wrong":
        at = dice.randrange(len(pieces))
        odd = dice.choice(
            (b"data: {\n\n", b"data: 7\n\n", b"event: x\ndata: []\n\n", sse({"error": {"message": "odd"}}))
        )
        parts = [head(200, "text/event-stream"), *framed([*pieces[:at], odd, *pieces[at:]])]
    left = dice.randrange(sum(map(len, parts))) if fate in ("cut", "mute") else None
    for part in parts:
        await asyncio.sleep(pause())
        if left is not None and left < len(part):
            await wire.send(part[:left])
            if fate == "mute":
                await wire.gone.wait()
                return
            wire.cut(reset=dice.random() < 0.5)
            return
        left = None if left is None else left - len(part)
        await wire.send(part)


class Elsewhere:
    """An OpenAI or an Anthropic upstream."""

    def __init__(self, dice: random.Random, mood: str, *, anthropic: bool, heard: Callable[[str, Asked], None]) -> None:
        self._dice, self._mood, self._anthropic, self._heard = dice, mood, anthropic, heard

    async def answer(self, asked: Asked, wire: Wire) -> None:
        dice, bad = self._dice, self._mood == BAD
        self._heard("c" if self._anthropic else "b", asked)
        await asyncio.sleep(dice.choice((0.001, 0.05, 0.5, 3.0)))
        if bad and dice.random() < 0.4:
            fate = dice.choice(("error", "busy", "mute", "reset", "redirect"))
            if fate == "mute":
                await wire.gone.wait()
            elif fate == "reset":
                wire.cut(reset=True)
            elif fate == "redirect":
                await reply(wire, b"", 307, "location: http://elsewhere.example/x\r\n")
            else:
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
                await reply(wire, error, 500 if fate == "error" else dice.choice((429, 503, 529)), "retry-after: 3\r\n")
            return
        body = json.loads(asked.body)
        words = [f"w{number} " for number in range(dice.randrange(1, 6))]
        if body.get("stream"):
            pieces = anthropic_stream(words) if self._anthropic else chat_stream(words, 9, 0, tool=dice.random() < 0.2)
            await play(wire, dice, pieces, self._mood, lambda: dice.choice((0.0, 0.001, 0.2)))
        elif self._anthropic:
            content = [{"type": "text", "text": "".join(words)}]
            whole = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content}
            await reply(wire, {**whole, "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}})
        else:
            await reply(wire, chat_whole(words, 9))
