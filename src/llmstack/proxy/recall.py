"""Lets the replay memory outlive the proxy: read when the first request comes, written behind the requests' backs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from llmstack.protocol.replay import Replay
from llmstack.snapshots.calls import Call, CallLog

WRITE_S = 1.0  # what a killed proxy may lose
WAIT_S = 2.0  # a request waits so long for the file to be read, then goes without it


class Recall:
    def __init__(self, replay: Replay, log: CallLog, say: Callable[[str, dict[str, Any]], None]) -> None:
        self._replay = replay
        self._log = log
        self._say = say
        self._reading: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._failed = ""

    async def ready(self) -> None:
        """Call before a request is translated; at once but for the first of a proxy's life."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        if not self._reading.done():
            await asyncio.wait({self._reading}, timeout=WAIT_S)

    async def _read(self) -> None:
        calls = await asyncio.to_thread(self._log.recover)
        self._replay.recall((call.tool_use_id, call.generated) for call in calls)

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """What is new goes to disk. A disk that refuses costs the memory of a later proxy, and one line in the log."""
        async with self._writing:
            calls = [Call(name, found.upstream_id, found.arguments) for name, found in self._replay.unsaved()]
            if not calls:
                return
            try:
                await asyncio.to_thread(self._log.add, calls)
                self._failed = ""
            except OSError as error:
                why = str(error.strerror)
                if why != self._failed:
                    self._say("snapshot", {"result": "dropped", "kind": "tool calls", "why": why})
                self._failed = why
