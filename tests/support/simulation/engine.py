"""A llama-server in memory: slots that hold tokens (a byte is one), states as files, a process that dies or hangs."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from llmstack.supervisor import LogLine, ServiceState, ServiceStatus
from llmstack.warmstart.prefix import common_length
from llmstack.warmstart.statefile import MAGIC, read_tokens
from support.simulation.clock import VirtualLoop
from support.simulation.members import BAD, chat_stream, chat_whole, head, play, reply, sse
from support.simulation.network import Asked, Member, Network, Wire

PID = 4_000_000  # above any that a kernel gives


@dataclass
class EngineSlot:
    tokens: array[int] = field(default_factory=lambda: array("I"))
    task: int = 0
    busy: bool = False


def render(body: dict[str, Any]) -> array[int]:
    """The template: text whose bytes are the tokens."""
    tools = json.dumps(body.get("tools", ""), sort_keys=True)
    words = "".join(f"<{message['role']}>{_text(message.get('content'))}" for message in body["messages"])
    return array("I", list(f"{tools}{words}".encode()))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


class Engine:
    """slots: as many as it has. Dies by `die`, hangs by `hang`, comes back by its supervisor."""

    def __init__(
        self, network: Network, dice: random.Random, port: int, slots: int, mood: str, folder: Path,
        heard: Callable[[str, Asked], None],
    ) -> None:  # fmt: skip
        self._network, self._dice, self._mood, self._folder, self._heard = network, dice, mood, folder, heard
        self._loop: VirtualLoop = network.loop
        self.member = Member(port, self._answer)
        network.members[port] = self.member
        self.slots = [EngineSlot() for _ in range(slots)]
        self.deaths = self.starts = 0
        self.version = 0  # counts changes of the slots
        self.started = self._loop.now
        self.down_until: float | None = None
        self.loading_until = 0.0
        self.hung = False
        self._tasks = 0

    # ---- what becomes of it -------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return None if self.down_until is not None else PID + self.starts

    def die(self) -> None:
        if self.down_until is not None:
            return
        self.deaths += 1
        self.hung = self.member.silent = False
        self.member.takes = False
        self._network.cut_all(self.member)
        self.slots, self._tasks = [EngineSlot() for _ in self.slots], 0
        self.version += 1
        self.down_until = self._loop.now + self._dice.choice((0.2, 1.0, 2.0, 8.0))
        self._loop.call_at(self.down_until, self._start)

    def _start(self) -> None:
        self.starts += 1
        self.down_until, self.started = None, self._loop.now
        self.loading_until = self._loop.now + self._dice.choice((0.0, 0.3, 3.0, 12.0))
        self.member.takes = True

    def hang(self) -> None:
        if self.down_until is None:
            self.hung = True
            self.member.silent = self._dice.random() < 0.5

    # ---- as its supervisor sees it ------------------------------------------------------------------------------

    kind = "process"

    def status(self) -> dict[str, ServiceStatus]:
        now = self._loop.now
        if self.down_until is not None:
            wait = self.down_until - now
            state = ServiceStatus("server", ServiceState.BACKOFF, None, None, self.deaths, "killed by SIGABRT", wait)
        else:
            state = ServiceStatus("server", ServiceState.RUNNING, self.pid, now - self.started, self.deaths, "SIGABRT")
        return {"server": state}

    def logs(self, names: Any, *, last: int | None, since_s: float | None) -> list[LogLine]:
        return []

    # ---- answering ----------------------------------------------------------------------------------------------

    async def _answer(self, asked: Asked, wire: Wire) -> None:
        if self.hung:
            await wire.gone.wait()
            return
        await asyncio.sleep(self._dice.choice((0.0, 0.001, 0.01)))
        parts = urlsplit(asked.path)
        if self._loop.now < self.loading_until:
            await reply(wire, {"error": {"message": "Loading model", "code": 503}}, 503)
            return
        body = json.loads(asked.body) if asked.body else {}
        if parts.path == "/health":
            await reply(wire, {"status": "ok"})
        elif parts.path == "/props":
            await reply(wire, {"media_marker": f"process {self.starts}", "chat_template": "t"})
        elif parts.path == "/slots":
            shown = [
                {"id": number, "is_processing": slot.busy, "id_task": slot.task, "n_prompt_tokens": len(slot.tokens)}
                for number, slot in enumerate(self.slots)
            ]
            await reply(wire, shown)
        elif parts.path == "/apply-template":
            await reply(wire, {"prompt": bytes(list(render(body))).decode()})
        elif parts.path == "/tokenize":
            await reply(wire, {"tokens": list(body["content"].encode())})
        elif parts.path.startswith("/slots/"):
            await self._slot(int(parts.path.rpartition("/")[2]), parse_qs(parts.query)["action"][0], body, wire)
        elif parts.path == "/completion":
            await self._prefill(array("I", body["prompt"]), wire)
        elif parts.path == "/v1/chat/completions":
            await self._chat(asked, body, wire)
        else:
            await reply(wire, {"error": {"message": "no such path"}}, 404)

    async def _chat(self, asked: Asked, body: dict[str, Any], wire: Wire) -> None:
        dice = self._dice
        self._heard("local", asked)
        if self._mood == BAD and dice.random() < 0.15:
            self.die()
            return
        if self._mood == BAD and dice.random() < 0.15:
            status, message = dice.choice(((500, "Failed to parse tool call"), (400, "odd"), (503, "busy")))
            await reply(wire, {"error": {"message": message}}, status)
            return
        prompt = render(body)
        words = [f"w{number} " for number in range(dice.randrange(1, 6))]
        starts = self.starts
        slot = await self._take(prompt)
        try:
            cached = self._compute(slot, prompt)
            await asyncio.sleep(dice.choice((0.001, 0.05, 1.0, 5.0)))
            if self._mood == BAD and dice.random() < 0.1:
                self.die()
                return
            if body.get("stream"):
                pieces = chat_stream(words, len(prompt), cached, tool=dice.random() < 0.2)
                await play(wire, dice, pieces, self._mood, lambda: dice.choice((0.0, 0.001, 0.1)))
            else:
                await reply(wire, chat_whole(words, len(prompt)))
        finally:
            await self._release(slot, starts, prompt + array("I", list("".join(words).encode())))

    async def _prefill(self, tokens: array[int], wire: Wire) -> None:
        starts = self.starts
        slot = await self._take(tokens)
        try:
            cached = self._compute(slot, tokens)
            progress = {"total": len(tokens), "cache": cached, "processed": len(tokens) // 2, "time_ms": 1}
            await wire.send(head(200, "text/event-stream"))
            await self._piece(wire, sse({"prompt_progress": progress, "stop": False}))
            await asyncio.sleep(self._dice.choice((0.01, 0.3, 2.0)))
            if self._mood == BAD and self._dice.random() < 0.15:
                self.die()
                return
            end = {"stop": True, "id_slot": slot, "tokens_evaluated": len(tokens)}
            await self._piece(wire, sse(end))
            await wire.send(b"0\r\n\r\n")
        finally:
            await self._release(slot, starts, tokens)

    @staticmethod
    async def _piece(wire: Wire, data: bytes) -> None:
        await wire.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def _slot(self, number: int, action: str, body: dict[str, Any], wire: Wire) -> None:
        slot = self.slots[number]
        starts = self.starts
        while slot.busy:  # noqa: ASYNC110  # such a task is deferred
            await asyncio.sleep(0.01)
        slot.busy = True
        try:
            await asyncio.sleep(self._dice.choice((0.001, 0.02, 0.5)))
            if starts != self.starts or self.down_until is not None:
                raise ConnectionResetError
            self.version += 1
            if action == "erase":
                slot.tokens = array("I")
                answer: dict[str, Any] = {"n_erased": 0}
            elif self._mood == BAD and self._dice.random() < 0.1:
                raise ValueError("the disk is full")
            elif action == "save":
                answer = {"n_saved": len(slot.tokens), "n_written": self._write(body["filename"], slot.tokens)}
            else:
                tokens = read_tokens(self._folder / body["filename"])
                if tokens is None:
                    raise ValueError("no such state")
                slot.tokens = tokens
                answer = {"n_restored": len(tokens)}
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionResetError):
                raise
            await reply(wire, {"error": {"message": str(error)}}, 500)
            return
        finally:
            slot.busy = False
        await asyncio.sleep(self._dice.choice((0.0, 0.0, 0.3)))  # others may have the slot before it is told
        await reply(wire, answer)

    def _write(self, name: str, tokens: array[int]) -> int:
        words = [0xFFFFFFFF, 1, len(tokens), *tokens, 0]
        data = MAGIC + struct.pack("<II", 4, len(words)) + struct.pack(f"<{len(words)}I", *words)
        if self._mood == BAD and self._dice.random() < 0.1:
            data = data[: self._dice.randrange(len(data))]  # what a full disk leaves
        (self._folder / name).write_bytes(data)
        return len(data)

    # ---- slots --------------------------------------------------------------------------------------------------

    async def _take(self, tokens: array[int]) -> int:
        """The slot that holds the most of it, else the least recently used one."""
        while all(slot.busy for slot in self.slots):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        idle = [number for number, slot in enumerate(self.slots) if not slot.busy]

        def fitness(number: int) -> tuple[int, int]:
            shared = common_length(self.slots[number].tokens, tokens)
            return (shared if shared > 0.1 * len(tokens) else 0, -self.slots[number].task)

        best = max(idle, key=fitness)
        self.slots[best].busy = True
        return best

    def _compute(self, number: int, tokens: array[int]) -> int:
        """Tokens that were there already."""
        slot = self.slots[number]
        cached = common_length(slot.tokens, tokens)
        self._tasks += 1
        slot.tokens, slot.task = tokens, self._tasks
        self.version += 1
        return cached

    async def _release(self, number: int, starts: int, tokens: array[int]) -> None:
        if starts == self.starts and self.down_until is None:
            self.slots[number].busy = False
            self.slots[number].tokens = tokens
            self.version += 1
