"""What ggml's graph allocator does with a list of tensors, replayed on sizes alone.

ggml_gallocr_alloc_graph_impl and ggml_dyn_tallocr (ggml/src/ggml-alloc.c, build 11434): a tensor takes the
smallest hole that holds it, else the end; it is freed after its last reader; an operation that can work in
place takes over its first source of the same size that nothing else reads afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Size = tuple[tuple[str, int], ...]  # (unit, amount) pairs; a unit's bytes are known only when replayed
_END = 1 << 62


@dataclass(slots=True)
class Tape:
    """Tensors of one device in the order of the graph, and who reads them."""

    _nodes: list[tuple[Size, bool, tuple[int, ...]]] = field(default_factory=list)
    _inputs: list[Size] = field(default_factory=list)
    _parts: list[int] = field(default_factory=list)

    def new(self, size: Size, *reads: int) -> int:
        """A tensor with memory of its own."""
        self._nodes.append((size, False, reads))
        return len(self._nodes) - 1

    def over(self, size: Size, *reads: int) -> int:
        """The result of an operation that may work in place (ggml_op_can_inplace)."""
        self._nodes.append((size, True, reads))
        return len(self._nodes) - 1

    def read(self, *reads: int) -> None:
        """A reader without memory on this device: a copy to another one, or a result too small to count."""
        self._nodes.append(((), False, reads))

    def input(self, size: Size) -> int:
        """A tensor of another device, copied at the start of the first part that reads it; its number is negative."""
        self._inputs.append(size)
        return -len(self._inputs)

    def part(self) -> None:
        """From here on a new part of the graph: the other device computes in between."""
        self._parts.append(len(self._nodes))

    def _order(self) -> list[int]:
        """All tensors, with the inputs' copies where ggml_backend_sched_split_graph puts them."""
        order: list[int] = []
        copied: set[int] = set()
        for low, high in itertools.pairwise([0, *self._parts, len(self._nodes)]):
            for _, _, reads in self._nodes[low:high]:
                for tensor in reads:
                    if tensor < 0 and tensor not in copied:
                        copied.add(tensor)
                        order.append(tensor)
            order += range(low, high)
        return order

    def program(self) -> Program:
        # the inputs stand behind the nodes, the first one last, so that their negative numbers are their places
        nodes = [*self._nodes, *((size, False, ()) for size in reversed(self._inputs))]
        readers = [0] * len(nodes)
        for _, _, reads in self._nodes:
            for tensor in reads:
                readers[tensor] += 1
        table: dict[Size, int] = {}
        sizes: list[int] = []
        steps: list[int] = []
        slot = [-1] * len(nodes)
        for number in self._order():
            size, inplace, reads = nodes[number]
            if size:
                taken = -1
                if inplace:
                    for source in reads:
                        if readers[source] == 1 and slot[source] >= 0 and nodes[source][0] == size:
                            taken, slot[source] = slot[source], -1
                            break
                if taken < 0:
                    taken = len(sizes)
                    steps.append(taken)
                    sizes.append(table.setdefault(size, len(table)))
                slot[number] = taken
            for tensor in reads:
                readers[tensor] -= 1
                if not readers[tensor] and slot[tensor] >= 0:
                    steps.append(~slot[tensor])
                    slot[tensor] = -1
        return Program(tuple(table), tuple(sizes), tuple(steps))


@dataclass(frozen=True, slots=True)
class Program:
    """sizes: each slot's place in the table; steps: a slot is allocated, ~slot is freed; number: which program."""

    table: tuple[Size, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    number: int = 0

    def peak(self, table: Sequence[int]) -> int:
        """The most bytes in use, holes included. table: the bytes of each entry of `self.table`."""
        offsets, lengths = [0], [_END]  # the holes by address; the last one is the end
        sizes = [table[entry] for entry in self.sizes]
        where = [0] * len(sizes)
        top = 0
        for step in self.steps:
            if step >= 0:
                size, least, best = sizes[step], _END, 0
                for hole, length in enumerate(lengths):
                    if size <= length <= least:
                        best, least = hole, length
                where[step] = at = offsets[best]
                if least > size:
                    offsets[best] = at + size
                    lengths[best] = least - size
                    if at + size > top and best == len(lengths) - 1:
                        top = at + size
                else:
                    del offsets[best], lengths[best]
            else:
                _free(offsets, lengths, where[~step], sizes[~step])
        return top


def _free(offsets: list[int], lengths: list[int], at: int, size: int) -> None:
    """ggml_dyn_tallocr_free_bytes: joins the first hole it touches, and that hole's other neighbour."""
    for hole, offset in enumerate(offsets):
        if offset + lengths[hole] == at:
            lengths[hole] += size
            if hole + 1 < len(offsets) and offset + lengths[hole] == offsets[hole + 1]:
                lengths[hole] += lengths.pop(hole + 1)
                del offsets[hole + 1]
            return
        if at + size == offset:
            offsets[hole] = at
            lengths[hole] += size
            if hole and offsets[hole - 1] + lengths[hole - 1] == at:
                lengths[hole - 1] += lengths.pop(hole)
                del offsets[hole]
            return
    hole = next((number for number, offset in enumerate(offsets) if offset > at), len(offsets))
    if hole == len(offsets):  # an empty tensor inside the end
        return
    offsets.insert(hole, at)
    lengths.insert(hole, size)
