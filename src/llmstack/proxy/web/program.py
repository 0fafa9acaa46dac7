"""A back end that is a command of the user's: the query is its last argument, JSON is read from its stdout.

It gets the environment that programs need, and none of this stack's keys; it is ended with everything that it started
when it takes too long, prints too much, or nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from llmstack.protocol.limits import most
from llmstack.protocol.web.refusal import trial, unavailable

_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


async def output_of(argv: Sequence[str]) -> bytes:
    """What it prints. Raises WebRefused when it cannot be started, fails, or prints too much."""
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # it may repeat the query
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            start_new_session=True,
        )
    except (OSError, ValueError):
        raise unavailable(f"The search command cannot be started; {trial()} tries it.", "no_command") from None
    assert child.stdout is not None
    try:
        data = await _all_of(child.stdout)
        status = await child.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # its own session: what it started goes with it
        await asyncio.shield(child.wait())
        raise
    if status != 0:
        raise unavailable(f"The search command failed (status {status}); {trial()} tries it.", "command_failed")
    return data


async def _all_of(stream: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    left = most("web_answer")
    while piece := await stream.read(65536):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise unavailable("The search command prints more than an answer may have.", "too_large")
    return b"".join(pieces)
