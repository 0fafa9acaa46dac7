"""The real llama-server behind a pipe that spoils it in one way, as a bad build would.

python bad_engine.py WAY LLAMA_SERVER ARGUMENTS...; `install` makes an engine's folder of it.

| way         | what is wrong                                             |
| ----------- | --------------------------------------------------------- |
| no-calls    | tools of a request are not looked at: a text comes instead |
| forgetful   | no prompt is ever taken from the cache                    |
| interrupted | nor are the first three, as if others came between them   |
| slow        | it stands still for most of the time of a plain completion |
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

WAYS = ("no-calls", "forgetful", "interrupted", "slow")
_BEAT_S = 0.01
_STILL = 4  # beats of five: far below what other programs on a busy machine take from an engine


def install(folder: Path, way: str, real: Path) -> Path:
    """The llama-server that `engine upgrade --to` takes; real: of llama-server itself."""
    assert way in WAYS
    folder.mkdir()
    (folder / "libggml-cpu.so").touch()  # what an engine is known by as one for the processor
    script = folder / "llama-server"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__)}' {way} '{real}' \"$@\"\n")
    script.chmod(0o755)
    return script


def spoiled(way: str, body: bytes, before: int) -> bytes:
    """before: how many requests came before this one."""
    try:
        request: Any = json.loads(body)
    except ValueError:
        return body
    if way == "no-calls":
        request = {
            name: value for name, value in request.items() if name not in ("tools", "tool_choice", "response_format")
        }
    if way == "forgetful" or (way == "interrupted" and before < 3):
        request["cache_prompt"] = False
    return json.dumps(request).encode()


class _Pipe:
    def __init__(self, way: str, port: int, engine: int) -> None:
        """engine: its pid."""
        self._way, self._port, self._engine = way, port, engine
        self._requests = 0
        self._session = ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False)

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path in ("/v1/chat/completions", "/completion"):
            body = spoiled(self._way, body, self._requests)
            self._requests += 1
        stumbling = None
        if self._way == "slow" and request.path == "/completion":  # what speeds are measured by
            stumbling = asyncio.create_task(_stumble(self._engine))
        try:
            return await self._passed_on(request, body)
        finally:
            if stumbling is not None:
                stumbling.cancel()
                os.kill(self._engine, signal.SIGCONT)

    async def _passed_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        url = f"http://127.0.0.1:{self._port}{request.path_qs}"
        try:
            async with self._session.request(request.method, url, data=body, headers=headers) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() in ("content-type",)}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                return response
        except OSError:  # it still loads its model
            return web.Response(status=503)


async def _stumble(pid: int) -> None:
    while True:
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(_STILL * _BEAT_S)
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(_BEAT_S)


async def _run(way: str, real: str, arguments: list[str]) -> int:
    at = arguments.index("--port") + 1
    outer = int(arguments[at])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        inner = probe.getsockname()[1]
    engine = await asyncio.create_subprocess_exec(real, *arguments[:at], str(inner), *arguments[at + 1 :])
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", _Pipe(way, inner, engine.pid).pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", outer).start()

    def end() -> None:
        os.kill(engine.pid, signal.SIGCONT)
        engine.terminate()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    return max(await engine.wait(), 0)


if __name__ == "__main__":
    chosen, program, *rest = sys.argv[1:]
    if "--port" not in rest:
        os.execv(program, [program, *rest])
    sys.exit(asyncio.run(_run(chosen, program, rest)))
