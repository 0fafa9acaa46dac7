"""The servers of this machine whose prompt caches are kept warm: one manager each, by the name of its upstream.

The managers share one store, so that the budget counts for all; a folder of it belongs to one server's flags.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from llmstack.catalog.routes import Target
from llmstack.proxy.slot_server import HttpSlotServer
from llmstack.proxy.upstreams import Upstreams
from llmstack.warmstart.interface import LogEvent
from llmstack.warmstart.manager import WarmStartManager
from llmstack.warmstart.prefix import Body
from llmstack.warmstart.store import Store

LOCAL = "local"


class WarmStarts:
    """managers: by upstream. Add one per server that `up` runs."""

    def __init__(self, upstreams: Upstreams, log_event: LogEvent) -> None:
        home = upstreams.live.home
        store = Store(home.slots, log_event=log_event)
        self.managers = {
            name: WarmStartManager(HttpSlotServer(upstreams, name), store, home.transaction, log_event)
            for name in (LOCAL,)
        }

    @property
    def local(self) -> WarmStartManager:
        """Whose state /health shows, and which `llmstack warm` asks."""
        return self.managers[LOCAL]

    def prefix_ready(self, target: Target, body: Body, conversation: str) -> AbstractAsyncContextManager[None]:
        """Around one request to an upstream; nothing happens around one to a server that is not ours."""
        manager = self.managers.get(target.name)
        if manager is None or target.kind != "llama-server" or target.base_url is not None:
            return nullcontext()
        return manager.prefix_ready(body, conversation)

    async def watch(self) -> None:
        """Runs beside the requests until it is cancelled."""
        await asyncio.gather(*(manager.watch() for manager in self.managers.values()))

    async def save_all(self) -> int:
        """What the slots of all servers hold; how many are on disk now. Raises SlotError."""
        saves = (manager.save_all() for manager in self.managers.values())
        counts = await asyncio.gather(*saves, return_exceptions=True)  # one that fails does not keep another from it
        for count in counts:
            if isinstance(count, BaseException):
                raise count
        return sum(count for count in counts if isinstance(count, int))
