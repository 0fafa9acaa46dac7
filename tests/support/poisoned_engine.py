"""The real llama-server behind a pipe that ends, with it, as soon as a request holds the word POISON.

python poisoned_engine.py LLAMA_SERVER ARGUMENTS...; `install` makes an engine's folder of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

WORD = b"POISON"
LAST_WORDS = "ggml/src/ggml.c:3141: GGML_ASSERT(a->ne[2] == b->ne[0]) failed"


def install(folder: Path, real: Path) -> Path:
    """A folder that `engine use` takes; real: of llama-server itself."""
    folder.mkdir()
    (folder / "libggml-cpu.so").touch()  # what an engine is known by as one for the processor
    script = folder / "llama-server"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__)}' '{real}' \"$@\"\n")
    script.chmod(0o755)
    return folder


class _Pipe:
    def __init__(self, engine: asyncio.subprocess.Process, port: int) -> None:
        self._engine = engine
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_engine, to_engine = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # it still loads its model
            writer.transport.abort()
            return
        await asyncio.gather(self._copy(reader, to_engine, watch=True), self._copy(from_engine, writer, watch=False))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watch: bool) -> None:
        last = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if watch and WORD in last + data:
                    self._end()
                last = data[-len(WORD) :]
                writer.write(data)
                await writer.drain()
        writer.close()

    def _end(self) -> None:
        self._engine.kill()
        print(LAST_WORDS, file=sys.stderr, flush=True)
        os.abort()


async def _run(real: str, arguments: list[str]) -> int:
    at = arguments.index("--port") + 1
    outer = int(arguments[at])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        inner = probe.getsockname()[1]
    engine = await asyncio.create_subprocess_exec(real, *arguments[:at], str(inner), *arguments[at + 1 :])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.terminate)
    server = await asyncio.start_server(_Pipe(engine, inner).serve, "127.0.0.1", outer)
    status = await engine.wait()
    server.close()
    return max(status, 0)


if __name__ == "__main__":
    program, *rest = sys.argv[1:]
    if "--port" not in rest:
        os.execv(program, [program, *rest])
    sys.exit(asyncio.run(_run(program, rest)))
