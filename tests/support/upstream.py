"""A chat completions server that does exactly what a test tells it, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from support.streams import DONE, finish, text, usage


@dataclass
class Asked:
    """One request. gone_at: when its client closed before the answer was complete (monotonic seconds)."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    gone_at: float | None = None
    answered: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """The answering side of one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked) -> None:
        self._reader = reader
        self.writer = writer
        self.asked = asked
        self.cut_off = False

    async def json(self, value: Any, status: int = 200, **headers: str) -> None:
        await self.whole(json.dumps(value).encode(), status, "application/json", **headers)

    async def whole(self, data: bytes, status: int = 200, kind: str = "text/plain", **headers: str) -> None:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{more}\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()
        self.asked.answered = True

    async def begin(self, kind: str = "text/event-stream", **headers: str) -> None:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n".encode()
        )
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        self.asked.answered = True

    async def stream(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        await self.begin()
        for piece in pieces:
            await self.send(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        await self.end()

    def cut(self) -> None:
        """The connection is reset: the process died."""
        self.cut_off = True
        transport: Any = self.writer.transport
        transport.abort()

    async def until_gone(self, limit_s: float = 30.0) -> None:
        """Waits until the asking side closes."""
        async with asyncio.timeout(limit_s):
            while await self._reader.read(4096):
                pass
        self.asked.gone_at = time.monotonic()
        self.cut_off = True


Script = Callable[[Asked, Wire], Awaitable[None]]


def say(*pieces: str, prompt: int = 10, output: int = 2) -> bytes:
    """A whole good answer in text."""
    return text(*pieces) + finish() + usage(prompt, output) + DONE


async def hello(asked: Asked, wire: Wire) -> None:
    if asked.path == "/v1/chat/completions":
        await wire.stream(say("Hel", "lo"))
    else:
        await aside(asked, wire)


async def aside(asked: Asked, wire: Wire) -> None:
    """What a llama-server answers besides completions; a token is four bytes here."""
    if asked.path == "/apply-template":
        await wire.json({"prompt": json.dumps(asked.json)})
    elif asked.path == "/tokenize":
        await wire.json({"tokens": [0] * (len(asked.json["content"]) // 4)})
    elif asked.path == "/health":
        await wire.json({"status": "ok"})
    else:
        await wire.json({"error": {"message": "no such path"}}, status=404)


class Upstream:
    """Runs in a thread of its own, on a port of its own."""

    def __init__(self, script: Script = hello, port: int = 0) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.open = 0
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def completions(self) -> list[Asked]:
        return [a for a in self.asked if a.path.partition("?")[0] in ("/v1/chat/completions", "/v1/messages")]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**26, backlog=512)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        asked: Asked | None = None
        try:
            while True:
                asked = await _request(reader)
                self.asked.append(asked)
                wire = Wire(reader, writer, asked)
                await self.script(asked, wire)
                if wire.cut_off:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            if asked is not None and not asked.answered and asked.gone_at is None:
                asked.gone_at = time.monotonic()
        finally:
            self.open -= 1
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return Asked(method, path, headers, body)


class Anthropic:
    """Scripts of an upstream that speaks Anthropic's own protocol."""

    BODY = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_9","type":"message","role":"assistant",'  # noqa: E501
        b'"model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,'
        b'"output_tokens":1}}}\n\nevent: ping\ndata: {"type": "ping"}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"from the cloud \\u00e9"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        b'"usage":{"output_tokens":4}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    )

    @staticmethod
    async def hello(asked: Asked, wire: Wire) -> None:
        await wire.begin("text/event-stream; charset=utf-8", request_id="req_cloud")
        for start in range(0, len(Anthropic.BODY), 37):
            await wire.send(Anthropic.BODY[start : start + 37])
        await wire.end()
