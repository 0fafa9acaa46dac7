"""Headers that are nearly a model's, by seed: some keys hold another number, another type or nothing, some tensors are
missing, renamed or of another shape. The reader takes them all; what follows must, or say why not."""

from __future__ import annotations

import random
from dataclasses import replace

from llmstack.gguf import GgufHeader
from llmstack.gguf.header import HeaderValue, Scalar
from support.planner import shapes

NUMBERS: tuple[Scalar, ...] = (
    0, 1, 2, 3, 7, 63, 64, 100, 513, 4096, 1 << 20, (1 << 31) - 1, 1 << 32, (1 << 40) - 1, 1 << 63, -1, -(1 << 31),
    0.0, 0.5, -1.5, 1e30, float("nan"), float("inf"), float("-inf"), True, False, "", "x", "\x1b]52;c;eA==\x07",
)  # fmt: skip
_HEADERS = tuple(make().header() for make in shapes.ALL)


def bad_header(seed: int) -> GgufHeader:
    chance = random.Random(seed)
    header = chance.choice(_HEADERS)
    values = dict(header.values)
    for _ in range(chance.randint(1, 3)):
        key = chance.choice(list(values))
        if chance.random() < 0.15:
            del values[key]
        elif chance.random() < 0.3:
            values[key] = tuple(chance.choice(NUMBERS) for _ in range(chance.choice((0, 1, 2, 40, 200))))
        else:
            values[key] = _changed(chance, values[key])
    tensors = list(header.tensors)
    for _ in range(chance.choice((0, 0, 1, 2))):
        if not tensors:
            break
        at = chance.randrange(len(tensors))
        tensor = tensors[at]
        what = chance.randrange(4)
        if what == 0:
            del tensors[at]
        elif what == 1:
            tensors[at] = replace(
                tensor, name=chance.choice(("blk.9999.x", "blk.0.attn_q", "\x1b[2J", tensors[0].name))
            )
        elif what == 2:
            shape = tuple(chance.choice((1, 2, 256, 1 << 20)) for _ in range(chance.randint(1, 4)))
            tensors[at] = replace(tensor, shape=shape)
        else:
            del tensors[chance.randrange(len(tensors)) :]
    return replace(header, values=values, tensors=tuple(tensors))


def _changed(chance: random.Random, value: HeaderValue) -> HeaderValue:
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.4:
        return max(0, value * chance.choice((0, 1, 2, 16)) // chance.choice((1, 2, 3)) + chance.choice((-1, 0, 1)))
    return chance.choice(NUMBERS)
