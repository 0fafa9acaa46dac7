"""A server in memory: slots that hold tokens, a template that writes text, a tokenizer that makes a token of a byte."""

from __future__ import annotations

import asyncio
import os
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmstack.stackfile import RunningServer
from llmstack.warmstart.interface import Prefilled, Slot, SlotError
from llmstack.warmstart.prefix import Body, common_length, prompt_of
from llmstack.warmstart.statefile import MAGIC, read_tokens


@dataclass
class MemorySlot:
    tokens: array[int] = field(default_factory=lambda: array("I"))
    task: int = 0
    busy: bool = False


def running(folder: Path, **more: Any) -> RunningServer:
    facts: dict[str, Any] = {
        "model": "tiny", "model_path": "/m.gguf", "host": "127.0.0.1", "port": 1, "argv": ("engine", "-m", "m.gguf"),
        "n_ctx": 65536, "n_ctx_slot": 65536, "n_parallel": 1, "n_predict": -1, "vision": False, "recurrent": False,
        "sliding_window": False, "cache_ram_mib": 8192, "states_folder": folder,
    }  # fmt: skip
    return RunningServer(**facts | more)


class MemoryServer:
    """calls: what it was asked, in order. gate: a prefill stands still while this is clear."""

    def __init__(self, facts: RunningServer) -> None:
        self.facts = facts
        self.memory = [MemorySlot() for _ in range(facts.n_parallel)]
        self.marker = "process 1"
        self.template = "template"
        self.answers = True
        self.saves = True
        self.failing_prefills = 0  # of the next ones
        self.prefill_fault: Exception = SlotError("out of memory")
        self.deadly: array[int] | None = None
        self.deadly_states = False
        self.failing_looks = 0  # of the next questions for the slots
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._tasks = 0

    # ---- what a test does ------------------------------------------------------------------------------------------

    def restart(self, marker: str) -> None:
        self.marker = marker
        self.memory = [MemorySlot() for _ in self.memory]
        self.calls.clear()

    def complete(self, body: Body) -> int:
        """Answers a chat request, as llama-server without a cache beside its slots; the tokens it had to compute."""
        return self._compute(self._render(body))[1]

    # ---- SlotServer ------------------------------------------------------------------------------------------------

    def running(self) -> RunningServer | None:
        return self.facts

    async def props(self) -> dict[str, Any]:
        self._asked("props")
        return {"media_marker": self.marker, "chat_template": self.template}

    async def slots(self) -> list[Slot]:
        self._asked("slots")
        if self.failing_looks:
            self.failing_looks -= 1
            raise SlotError("not yet")
        return [Slot(number, slot.busy, slot.task, len(slot.tokens)) for number, slot in enumerate(self.memory)]

    async def tokens(self, body: Body) -> array[int]:
        self._asked("tokens")
        return self._render(body)

    async def count(self, body: Body) -> int:
        return len(await self.tokens(prompt_of(body)))

    async def prefill(self, tokens: array[int], progress: Callable[[int, int, int], None]) -> Prefilled:
        self._asked("prefill")
        if self.failing_prefills:
            self.failing_prefills -= 1
            raise self.prefill_fault
        progress(len(tokens) // 2, len(tokens), 0)
        await self.gate.wait()
        number, computed = self._compute(tokens)
        return Prefilled(number, len(tokens) - computed, computed)

    async def save(self, slot: int, name: str) -> tuple[int, int]:
        self._asked(f"save {slot}")
        if not self.saves:
            raise SlotError("the disk is full")
        tokens = self.memory[slot].tokens
        words = [0xFFFFFFFF, 1, len(tokens), *tokens, 0]
        data = MAGIC + struct.pack("<II", 4, len(words)) + struct.pack(f"<{len(words)}I", *words)
        (self._folder / name).write_bytes(data)
        return len(tokens), len(data)

    async def restore(self, slot: int, name: str) -> int:
        self._asked(f"restore {slot}")
        tokens = read_tokens(self._folder / name)
        assert tokens is not None
        self.memory[slot].tokens = tokens
        return len(tokens)

    def dies_on_states(self) -> bool:
        return self.deadly_states

    def dies_on(self, tokens: array[int]) -> bool:
        return self.deadly == tokens

    @property
    def _folder(self) -> Path:
        assert self.facts.states_folder is not None
        return self.facts.states_folder

    def _asked(self, call: str) -> None:
        if not self.answers:
            raise SlotError("nobody answers")
        self.calls.append(call)

    def _render(self, body: Body) -> array[int]:
        text = "".join(f"<{message['role']}>{message['content']}" for message in body["messages"])
        return array("I", list(text.encode()))

    def _compute(self, tokens: array[int]) -> tuple[int, int]:
        """Into the slot that holds the most of it, else into the one whose last task is the oldest."""
        shared = [common_length(slot.tokens, tokens) for slot in self.memory]
        similar = [length if length > 0.1 * len(tokens) else 0 for length in shared]  # slot_prompt_similarity
        best = max(range(len(self.memory)), key=lambda number: (similar[number], -self.memory[number].task))
        self.memory[best].tokens = tokens
        self._tasks += 1
        self.memory[best].task = self._tasks  # a save or a restore is no task of a slot
        return best, len(tokens) - shared[best]


def conversation(topic: str, *turns: str) -> Body:
    """A request whose system text is long enough to be kept."""
    system = {"role": "system", "content": f"{topic} " * (5000 // len(topic))}
    roles = ("user", "assistant")
    return {"messages": [system, *({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))]}


def side_call() -> Body:
    return {"messages": [{"role": "system", "content": "a title"}, {"role": "user", "content": "x" * 3000}]}


def age(folder: Path) -> None:
    """Makes what is on disk older than what comes next, in the order in which it was written."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    for number, path in enumerate(files):
        os.utime(path, (1000 + number, 1000 + number))
