"""An engine of a test's own, by its command line, for as long as a block runs; what it says goes to a file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.wait import eventually, free_port


@contextmanager
def engine_process(argv: Sequence[str], log: Path) -> Iterator[str]:
    """Its address, once it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    with log.open("w") as out, subprocess.Popen([*argv, "--port", str(port)], stdout=out, stderr=out) as server:
        try:
            eventually(is_ready, "the engine is ready", 60)
            yield url
        finally:
            server.terminate()
