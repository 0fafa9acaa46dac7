"""Those who ask: what they send, how they read, when they leave, and what they were given."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SYSTEM = {name: f"You are {name}. " + "Many words of a system text. " * 160 for name in ("an agent", "another agent")}
PATHS = ("/v1/messages", "/v1/messages", "/v1/messages", "/v1/chat/completions")
BUFFERED = 300  # bytes that the kernel takes for a client that reads nothing, here a little
TOOLS = [{"name": "Read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}]

# A block of a message, or a delta of a completion that says something: a role and nothing else is a sign of life.
_SUBSTANCE = re.compile(
    rb'content_block_start|"(?:reasoning_)?content":"[^"]|"tool_calls":\[|"object":"chat.completion"'
)


@dataclass(frozen=True)
class Habits:
    """Of one client. after_s: until it begins. leaves_s: after which it goes, answered or not. reading_s: for a piece.
    stops_reading: after so many pieces it takes no more. half: it goes before its request is whole."""

    number: int
    question: str
    path: str
    body: bytes
    streaming: bool
    after_s: float
    leaves_s: float | None
    reading_s: float
    stops_reading: int | None
    half: bool
    session: str


def habits(dice: random.Random, number: int, model: str, *, long: bool, before: list[Habits]) -> Habits:
    """before: of the others; one may be asked again, byte for byte."""
    after_s, leaves_s = (
        dice.random() * (3 if long else 6),
        dice.choice((0.01, 0.3, 2.0, 9.0)) if dice.random() < 0.3 else None,
    )
    reading_s = dice.choice((0.0, 0.0, 0.0, 0.05, 1.0))
    stops = dice.randrange(3) if dice.random() < 0.06 else None
    if before and dice.random() < 0.2:
        twin = dice.choice(before)
        after_s = twin.after_s + dice.choice((0.0, 0.1, 1.0, 3.0))
        return Habits(
            number, twin.question, twin.path, twin.body, twin.streaming, after_s, leaves_s, reading_s, stops, False,
            twin.session,
        )  # fmt: skip
    path, streaming, question = dice.choice(PATHS), dice.random() < 0.8, f"question {number} of them"
    session = f"session-{dice.randrange(3)}" if dice.random() < 0.7 else ""
    turns = [{"role": "user", "content": question}]
    if dice.random() < 0.3:
        turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, *turns]
    body: dict[str, Any] = {"model": model, "max_tokens": 50, "stream": streaming, "messages": turns}
    system = SYSTEM[dice.choice(tuple(SYSTEM))] if long else ""
    if path == "/v1/messages":
        body |= {"system": system} if system else {}
        body |= {"tools": TOOLS} if dice.random() < 0.3 else {}
    else:
        body |= {"messages": [{"role": "system", "content": system}, *turns]} if system else {}
        body |= {"logprobs": True} if number % 3 else {}  # goes as it is, past the warm start
    data = json.dumps(body).encode()
    half = dice.random() < 0.04
    return Habits(number, question, path, data, streaming, after_s, leaves_s, reading_s, stops, half, session)


@dataclass
class Client:
    """One request as uvicorn would hand it on, and what came back. broken: a rule that was not kept."""

    habits: Habits
    token: str
    note: Callable[[str], None]
    dice: random.Random
    status: int | None = None
    data: bytearray = field(default_factory=bytearray)
    complete: bool = False
    gone: bool = False
    substance: bool = False  # a byte of the model's own was sent
    broken: list[str] = field(default_factory=list)
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _given: int = 0
    _pieces: int = 0

    def scope(self) -> dict[str, Any]:
        named = [(b"x-claude-code-session-id", self.habits.session.encode())] if self.habits.session else []
        headers = [(b"host", b"127.0.0.1"), (b"x-api-key", self.token.encode()), *named]
        return {
            "type": "http", "http_version": "1.1", "method": "POST", "path": self.habits.path, "raw_path": b"",
            "query_string": b"", "headers": [*headers, (b"content-length", str(len(self.habits.body)).encode())],
            "transport": self, "root_path": "", "scheme": "http", "server": ("127.0.0.1", 5000), "client": ("::1", 1),
        }  # fmt: skip

    def leave(self) -> None:
        self.gone = True
        self._left.set()

    def abort(self) -> None:
        """The proxy has had enough of it."""
        self.leave()

    async def receive(self) -> dict[str, Any]:
        body = self.habits.body
        if self._given < len(body):
            if self.habits.half and self._given:
                await self._left.wait()
                return {"type": "http.disconnect"}
            size = len(body) // 2 if self.habits.half else len(body)
            piece = body[self._given : self._given + size]
            self._given += len(piece)
            await asyncio.sleep(self.dice.choice((0.0, 0.001, 0.1)))
            return {"type": "http.request", "body": piece, "more_body": self._given < len(body)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._rule(self.status is None, "two heads of an answer")
            self.status = message["status"]
            self.note(f"client {self.habits.number} gets {self.status}")
            return
        self._rule(self.status is not None, "a body without a head")
        self._rule(not self.complete, "something behind the end")
        data = message.get("body", b"")
        self.data += data
        if _SUBSTANCE.search(data):
            self.substance = True
        self.complete = not message.get("more_body", False)
        self.note(f"client {self.habits.number} gets {len(data)} bytes{' and the end' if self.complete else ''}")
        self._pieces += 1
        stops = self.habits.stops_reading
        if stops is not None and self._pieces > stops and len(self.data) > BUFFERED:
            await self._left.wait()  # uvicorn's send waits for room; the proxy cuts the connection at last
        elif self.habits.reading_s and not self.gone:
            await asyncio.sleep(self.habits.reading_s)

    # ---- what must hold -----------------------------------------------------------------------------------------

    def _rule(self, holds: bool, else_what: str) -> None:
        if not holds:
            self.broken.append(f"client {self.habits.number}: {else_what}")

    def ends(self) -> int:
        """Of a stream: how often it was ended."""
        text = bytes(self.data).replace(b'"type": ', b'"type":')
        if self.habits.path == "/v1/messages":
            return text.count(b'{"type":"message_stop"') + text.count(b'{"type":"error"')
        marked = text.count(b"data: [DONE]") + text.count(b'data: {"error"')
        return marked or int(b'"finish_reason": "' in text)  # some upstreams send no [DONE]

    def judge(self) -> list[str]:
        """When it is over."""
        streamed = self.status == 200 and self.habits.streaming
        if streamed and self.data:
            most = self.ends()
            self._rule(most <= 1, f"{most} ends of one stream: {bytes(self.data[-300:])!r}")
            self._rule(most == 1 or self.gone, f"a stream without an end: {bytes(self.data[-300:])!r}")
            self._rule(self.data.endswith(b"\n\n") or self.gone, f"half an event: {bytes(self.data[-100:])!r}")
        if not self.gone:
            self._rule(self.complete, f"no whole answer: {self.status} {bytes(self.data[-200:])!r}")
            if self.status is not None and not streamed:
                try:
                    json.loads(self.data)
                except ValueError:
                    self._rule(False, f"no JSON: {bytes(self.data[:200])!r}")
        return self.broken
