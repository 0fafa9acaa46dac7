"""Connections in memory. The proxy's side is an asyncio transport; the other one is a coroutine that reads requests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from support.simulation.clock import VirtualLoop


@dataclass
class Asked:
    """One request as a member gets it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Asked, "Wire"], Awaitable[None]]


class Wire(asyncio.Transport):
    """One connection, both ends of it. What the proxy writes arrives after a while; what a member sends comes in pieces
    as the dice fall."""

    def __init__(self, network: Network, member: Member, protocol: Any) -> None:
        super().__init__()
        self._network, self.member, self._protocol = network, member, protocol
        self._loop, self._dice = network.loop, network.dice
        self._arrived = b""
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()
        self.gone = asyncio.Event()  # the proxy's side is closed
        self._task: asyncio.Task[None] | None = None

    # ---- the proxy's side: what aiohttp asks of a transport -----------------------------------------------------

    def write(self, data: Any) -> None:
        if not self._closing:
            self._loop.call_later(self._pause(), self._receive, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def is_reading(self) -> bool:
        return self._reading.is_set()

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 65536)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", self.member.port) if name == "peername" else default

    # ---- the member's side --------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """In one piece or in many. Raises ConnectionResetError once the proxy has gone."""
        while data:
            size = len(data) if self._dice.random() < 0.6 else 1 + self._dice.randrange(len(data))
            piece, data = data[:size], data[size:]
            if self._dice.random() < 0.5:
                await asyncio.sleep(self._pause())
            await self._reading.wait()
            if self._closing:
                raise ConnectionResetError
            self._protocol.data_received(piece)

    def cut(self, *, reset: bool) -> None:
        """The member ends the connection, or dies."""
        if not self._closing:
            if not reset:
                self._protocol.eof_received()
            self._lose(ConnectionResetError(104, "Connection reset by peer") if reset else None)

    def opened(self, protocol: Any) -> tuple[Wire, Any]:
        self._protocol = protocol
        protocol.connection_made(self)
        return self, protocol

    def _pause(self) -> float:
        return self._dice.choice((0.0, 0.0005, 0.003, 0.02, 0.1))

    def _receive(self, data: bytes) -> None:
        if self._closing:
            return
        self._arrived += data
        if self._task is None and (asked := self._whole_request()) is not None:
            self._task = self._loop.create_task(self._answer(asked))

    def _whole_request(self) -> Asked | None:
        head, found, rest = self._arrived.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._arrived = rest[length:]
        method, path, _ = first.split(" ")
        return Asked(method, path, headers, rest[:length])

    async def _answer(self, asked: Asked) -> None:
        try:
            await self.member.answer(asked, self)
        except ConnectionResetError:
            pass
        finally:
            self._task = None
            self._network.loop.call_soon(self._receive, b"")

    def _lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self.gone.set()
        self._reading.set()
        self._network.wires.pop(self, None)
        if self._task is not None:
            self._task.cancel()
        self._loop.call_soon(self._protocol.connection_lost, error)


@dataclass
class Member:
    """An upstream at a port. takes: whether a connection is taken; silent: whether it is neither taken nor refused."""

    port: int
    answer: Answering
    takes: bool = True
    silent: bool = False


@dataclass
class Network:
    loop: VirtualLoop
    dice: random.Random
    members: dict[int, Member] = field(default_factory=dict)
    wires: dict[Wire, None] = field(default_factory=dict)  # in the order in which they came

    async def connect(self, address: tuple[str, int]) -> Wire:
        await asyncio.sleep(self.dice.choice((0.0, 0.001, 0.05)))
        member = self.members.get(address[1])
        while member is not None and member.silent:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        if member is None or not member.takes:
            raise ConnectionRefusedError(111, "Connect call failed")
        wire = Wire(self, member, None)
        self.wires.setdefault(wire)
        return wire

    def cut_all(self, member: Member) -> None:
        for wire in [wire for wire in self.wires if wire.member is member]:
            wire.cut(reset=True)
