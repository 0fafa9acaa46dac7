"""Bytes of a GGUF header: cut, overwritten, shuffled."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from llmstack.errors import StackError
from llmstack.gguf import writer
from llmstack.gguf.reader import read_header
from llmstack.plan.facts import read_facts
from llmstack.plan.goal import Goal
from llmstack.plan.make import make_plan
from llmstack.units import escape
from support.planner import shapes
from support.planner.bad_headers import bad_header
from support.planner.draws import machine

_NUMBERS = (0, 1, 2, 8, 9, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_TEXTS = (b"\x1b]52;c;eA==\x07", b"\x00", b"\xff\xfe", b"../../x", b"a b\nc", "模".encode(), b"general.architecture")
_BASES = tuple(writer.header(shape.metadata, shape.tensors) for shape in (make() for make in shapes.ALL[:6]))


@dataclass(frozen=True)
class _Bytes:
    data: bytes

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def mutated(dice: random.Random) -> tuple[bytes, int]:
    data, size = dice.choice(_BASES)
    out = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(min(len(out), 4096 if dice.random() < 0.7 else len(out)) or 1)
        what = dice.randrange(6)
        if what == 0:
            out[at : at + 1] = bytes([dice.randrange(256)])
        elif what == 1:
            number = struct.pack("<Q", dice.choice(_NUMBERS))[: dice.choice((1, 4, 8))]
            out[at : at + len(number)] = number
        elif what == 2:
            text = dice.choice(_TEXTS)
            out[at : at + len(text)] = text
        elif what == 3:
            del out[at : at + dice.choice((1, 4, 8, 100))]
        elif what == 4:
            out[at:at] = out[at : at + dice.choice((1, 8, 64))]
        else:
            del out[at:]
    return bytes(out), max(size if dice.random() < 0.7 else dice.choice((0, len(out), 1 << 50)), 0)


def one(seed: int) -> None:
    dice = random.Random(seed)
    try:
        if dice.random() < 0.8:
            data, size = mutated(dice)
            header = read_header(_Bytes(data), size)
        else:
            header = bad_header(seed)
        facts = read_facts(header)
        if dice.random() < 0.7:
            return
        gpu = dice.choice((0, 8, 24))
        plan = make_plan(facts, machine(gpu, dice.choice((8, 64))), Goal())
    except StackError as error:
        shown = f"{error} {error.why} {error.next}"
        assert shown.isprintable() or "\n" in shown, repr(shown)
        assert "\x1b" not in shown and "\x00" not in shown, repr(shown)
        return
    assert plan.argv and all(isinstance(word, str) and word for word in plan.argv)
    escape.exec_line(["/usr/bin/llama-server", *plan.argv])
