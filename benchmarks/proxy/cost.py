"""What the proxy costs: the same work straight to a fast fake upstream and through the proxy, in one run.

    python -m benchmarks.proxy.cost [--json]

| figure             | work                                                                              |
| ------------------ | --------------------------------------------------------------------------------- |
| first byte         | 160 KB body with 20 tools, one at a time: time to the first byte of the answer     |
| 16 at once         | the same bodies, sixteen together, 95th percentile                                 |
| the same by httpx  | the client of the official SDKs, whose own two milliseconds are in both columns    |
| deltas a second    | streams of 2,000 deltas as fast as they come, one at a time                        |
| CPU per delta      | 32 streams, deltas 1 ms apart: CPU of the proxy process over deltas                |
| resident           | of the proxy process after all of it (more than 1,000 requests)                    |

The fake is plain asyncio and parses the body with `json`, as a server must.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from support.proxy_stand import TOKEN, ProxyStand
from support.streams import DONE, finish, text, usage
from support.wait import free_port

DELTAS = 2000


def body(model: str, *, big: bool = True) -> bytes:
    tools = [
        {
            "name": f"tool_{n}",
            "description": "Does something useful with files. " * 60,
            "input_schema": {
                "type": "object",
                "properties": {
                    f"field_{f}": {"type": "string", "description": "What it is for. " * 6} for f in range(12)
                },
            },
        }
        for n in range(20)
    ]
    messages = [
        {"role": "user", "content": "Words of a long conversation, with some code: x = f(y)\n" * (1400 if big else 1)}
    ]
    value: dict[str, Any] = {"model": model, "max_tokens": 1000, "stream": True, "messages": messages}
    if big:
        value["tools"] = tools
        value["system"] = [{"type": "text", "text": "You help with code. " * 300}]
    return json.dumps(value).encode()


# ---- the fake -------------------------------------------------------------------------------------------------


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = _chunk(finish() + usage(100, 5) + DONE) + b"0\r\n\r\n"
ONE = _chunk(text("token "))
FLOOD = _chunk(text("token ") * 50)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            asked = json.loads(await reader.readexactly(size))
            model = asked["model"]
            writer.write(HEAD)
            if model == "flood":
                for _ in range(DELTAS // 50):
                    writer.write(FLOOD)
                    await writer.drain()
            elif model == "drip":
                for _ in range(500):
                    writer.write(ONE)
                    await asyncio.sleep(0.001)
            else:
                writer.write(ONE)
            writer.write(END)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _fake(pipe: Any) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=2**24, backlog=256)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


# ---- the client -----------------------------------------------------------------------------------------------


class Connection:
    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, data: bytes) -> tuple[float, float, bytes]:
        """Seconds to the first byte of the body, seconds in all, the body."""
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {TOKEN}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        ).encode()
        begun = time.perf_counter()
        self._writer.write(head + data)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        pieces = [await self._reader.read(65536)]
        first = time.perf_counter() - begun
        while not pieces[-1].endswith(b"0\r\n\r\n"):
            pieces.append(await self._reader.read(262144))
        return first, time.perf_counter() - begun, b"".join(pieces)


async def first_byte(port: int, path: str, count: int = 200) -> list[float]:
    data = body("m")
    async with Connection(port, path) as connection:
        for _ in range(10):
            await connection.ask(data)
        return [(await connection.ask(data))[0] for _ in range(count)]


async def at_once(port: int, path: str, width: int = 16, rounds: int = 20) -> list[float]:
    data = body("m")

    async def one() -> list[float]:
        async with Connection(port, path) as connection:
            return [(await connection.ask(data + b" " * (id(connection) % 97)))[0] for _ in range(rounds)]

    return [x for found in await asyncio.gather(*[one() for _ in range(width)]) for x in found]


async def at_once_httpx(port: int, path: str, width: int = 16, rounds: int = 12) -> list[float]:
    """The same through httpx, the client inside the official SDKs: two to three milliseconds of its own a request."""
    data = body("m")
    headers = {"x-api-key": TOKEN, "content-type": "application/json"}

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        async def one(number: int) -> list[float]:
            times = []
            for _ in range(rounds):
                begun = time.perf_counter()
                async with client.stream("POST", path, content=data + b" " * number, headers=headers) as response:
                    pieces = response.aiter_raw()
                    await anext(pieces)
                    times.append(time.perf_counter() - begun)
                    async for _ in pieces:
                        pass
            return times

        await one(0)
        return [x for found in await asyncio.gather(*[one(n) for n in range(width)]) for x in found]


async def flood(port: int, path: str, count: int = 30) -> float:
    data = body("flood", big=False)
    async with Connection(port, path) as connection:
        await connection.ask(data)
        begun = time.perf_counter()
        for _ in range(count):
            _, _, answer = await connection.ask(data)
            assert answer.count(b'"token "') == DELTAS
        return count * DELTAS / (time.perf_counter() - begun)


async def drip(port: int, path: str, width: int = 32) -> int:
    async def one(number: int) -> None:
        async with Connection(port, path) as connection:
            await connection.ask(body("drip", big=False) + b" " * number)

    await asyncio.gather(*[one(n) for n in range(width)])
    return width * 500


def p(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def measure_bare() -> dict[str, Any]:
    """The same work through a relay with no features."""
    ours_pipe, theirs = multiprocessing.Pipe()
    fake = multiprocessing.Process(target=_fake, args=(theirs,), daemon=True)
    fake.start()
    upstream = ours_pipe.recv()
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("bare.py"))]
    relay = subprocess.Popen([*command, f"http://127.0.0.1:{upstream}/v1/chat/completions", str(port)])
    try:
        while not is_open(port):
            time.sleep(0.1)
        return {"upstream": "openai, bare relay", **_work(upstream, port, psutil.Process(relay.pid))}
    finally:
        relay.kill()
        relay.wait()
        fake.terminate()
        fake.join()


def _work(upstream: int, port: int, process: psutil.Process) -> dict[str, Any]:
    direct, ours = (upstream, "/v1/chat/completions"), (port, "/v1/messages")
    result: dict[str, Any] = {}
    plain, through = asyncio.run(first_byte(*direct)), asyncio.run(first_byte(*ours))
    result["first_byte_ms"] = [statistics.median(plain) * 1000, statistics.median(through) * 1000]
    plain, through = asyncio.run(at_once(*direct)), asyncio.run(at_once(*ours))
    result["at_once_p95_ms"] = [p(plain, 0.95) * 1000, p(through, 0.95) * 1000]
    plain, through = asyncio.run(at_once_httpx(*direct)), asyncio.run(at_once_httpx(*ours))
    result["at_once_httpx_p95_ms"] = [p(plain, 0.95) * 1000, p(through, 0.95) * 1000]
    result["deltas_per_s"] = [asyncio.run(flood(*direct)), asyncio.run(flood(*ours))]
    before = sum(process.cpu_times()[:2])
    deltas = asyncio.run(drip(*ours))
    result["cpu_us_per_delta"] = (sum(process.cpu_times()[:2]) - before) / deltas * 1e6
    asyncio.run(first_byte(*ours, count=500))
    result["resident_mib"] = process.memory_info().rss / 2**20
    return result


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def measure(kind: str) -> dict[str, Any]:
    """kind: of the upstream, `openai` or `llama-server` (which adds the preflight)."""
    ours_pipe, theirs = multiprocessing.Pipe()
    fake = multiprocessing.Process(target=_fake, args=(theirs,), daemon=True)
    fake.start()
    upstream = ours_pipe.recv()
    models = (
        f'[upstreams.fake]\nkind = "{kind}"\nbase_url = "http://127.0.0.1:{upstream}"\njoin = false\ncontext = 1000000\n'  # noqa: E501
        '[[routes]]\nmatch = "*"\nupstream = "fake"\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        stand = ProxyStand(Path(folder), models=models).start()
        try:
            return {"upstream": kind, **_work(upstream, stand.port, stand.usage())}
        finally:
            stand.stop()
            fake.terminate()
            fake.join()


def main() -> None:
    results = [measure_bare(), measure("openai"), measure("llama-server")]
    if "--json" in sys.argv:
        print(json.dumps(results))
        return
    for r in results:
        (d1, o1), (d2, o2), (d3, o3) = r["first_byte_ms"], r["at_once_p95_ms"], r["deltas_per_s"]
        print(f"upstream of kind {r['upstream']}          direct      ours")
        print(f"first byte, p50                 {d1:7.2f} ms {o1:7.2f} ms   +{o1 - d1:.2f} ms   (goal +2.0)")
        print(f"16 at once, first byte, p95     {d2:7.1f} ms {o2:7.1f} ms   {o2 / d2:.2f} x")
        (d4, o4) = r["at_once_httpx_p95_ms"]
        print(f"the same by httpx, p95          {d4:7.1f} ms {o4:7.1f} ms   {o4 / d4:.2f} x    (goal 1.6)")
        print(f"deltas a second                 {d3:7.0f}    {o3:7.0f}              (goal 40,000)")
        print(f"CPU per delta, one by one                  {r['cpu_us_per_delta']:7.1f} µs            (goal 60)")
        print(f"resident                                   {r['resident_mib']:7.1f} MiB           (goal 90)\n")


if __name__ == "__main__":
    main()
