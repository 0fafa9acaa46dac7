"""What ggml's graph allocator does with a list of tensors, replayed on sizes alone.

Sources: ggml/src/ggml-alloc.c and ggml/src/ggml-backend.cpp, build 11434.

1. `ggml_backend_sched_split_graph` cuts the graph where another device computes in between. Each part is a split;
   tensors of another device that it reads are copied at its start.
2. `ggml_gallocr_alloc_graph_impl` counts each tensor's readers, then passes over the nodes in order: it allocates a
   node, and frees each source whose last reader this was.
3. `ggml_gallocr_allocate_node` first tries to give a node the memory of one of its sources (`ggml_op_can_inplace`).
4. `ggml_dyn_tallocr_alloc` takes the smallest hole that holds the tensor, else the end;
   `ggml_dyn_tallocr_free_bytes` gives bytes back and joins neighbouring holes.

The highest byte ever in use is the buffer that llama.cpp reserves (`ggml_gallocr_reserve_n`). Steps 1 to 3 do not
depend on how large tensors are, only on which have equal sizes: they are done once (NodeList.program) and step 4 is
repeated for each context and micro-batch (Program.peak).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Size = tuple[tuple[str, int], ...]  # (unit, amount) pairs; a unit's bytes are known only when replayed
_END = 1 << 62  # ggml_dyn_tallocr_reset: the last free block is half of SIZE_MAX


@dataclass(slots=True)
class NodeList:
    """The tensors of one device in the order of the graph (ggml_cgraph.nodes), and which others each one reads.

    Methods return a tensor's number. Copies of another device's tensors have negative ones.
    """

    _nodes: list[tuple[Size, bool, tuple[int, ...]]] = field(default_factory=list)
    _copies: list[Size] = field(default_factory=list)
    _splits: list[int] = field(default_factory=list)

    def allocate(self, size: Size, *sources: int) -> int:
        """A tensor with memory of its own: a matrix product, a copy, an operation that cannot work in place."""
        self._nodes.append((size, False, sources))
        return len(self._nodes) - 1

    def in_place(self, size: Size, *sources: int) -> int:
        """The result of an operation that may work in place (ggml_op_can_inplace): norms, sums, products, scales."""
        self._nodes.append((size, True, sources))
        return len(self._nodes) - 1

    def consume(self, *sources: int) -> None:
        """A reader without memory here: it writes to the cache or to another device, or is too small to count."""
        self._nodes.append(((), False, sources))

    def copy_in(self, size: Size) -> int:
        """A tensor of another device, copied at the start of the first split that reads it."""
        self._copies.append(size)
        return -len(self._copies)

    def split(self) -> None:
        """A new split begins: the other device computes in between."""
        self._splits.append(len(self._nodes))

    def _order(self) -> list[int]:
        """All tensors, with the copies where ggml_backend_sched_split_graph puts them."""
        order: list[int] = []
        copied: set[int] = set()
        for low, high in itertools.pairwise([0, *self._splits, len(self._nodes)]):
            for _, _, sources in self._nodes[low:high]:
                for tensor in sources:
                    if tensor < 0 and tensor not in copied:
                        copied.add(tensor)
                        order.append(tensor)
            order += range(low, high)
        return order

    def program(self) -> Program:
        """When each tensor gets memory and when it is freed (ggml_gallocr_alloc_graph_impl)."""
        # Copies stand behind the nodes, the first one last, so that a negative number is an index from the end.
        nodes = [*self._nodes, *((size, False, ()) for size in reversed(self._copies))]
        readers = [0] * len(nodes)  # hash_node.n_children
        for _, _, sources in self._nodes:
            for tensor in sources:
                readers[tensor] += 1
        table: dict[Size, int] = {}
        slot_sizes: list[int] = []
        steps: list[int] = []
        slots = [-1] * len(nodes)
        for number in self._order():
            size, may_reuse, sources = nodes[number]
            if size:
                slot = -1
                if may_reuse:
                    # ggml_gallocr_allocate_node: the first source of equal size that only this node still reads
                    for source in sources:
                        if readers[source] == 1 and slots[source] >= 0 and nodes[source][0] == size:
                            slot, slots[source] = slots[source], -1
                            break
                if slot < 0:
                    slot = len(slot_sizes)
                    steps.append(slot)
                    slot_sizes.append(table.setdefault(size, len(table)))
                slots[number] = slot
            # A tensor that nothing reads keeps its memory: only a reader frees (n_children and n_views reach 0).
            for tensor in sources:
                readers[tensor] -= 1
                if not readers[tensor] and slots[tensor] >= 0:
                    steps.append(~slots[tensor])
                    slots[tensor] = -1
        return Program(tuple(table), tuple(slot_sizes), tuple(steps))


@dataclass(frozen=True, slots=True)
class Program:
    """Allocations and frees in order.

    table: the different sizes. sizes: for each slot, the index of its size in the table. steps: n allocates slot n,
    ~n frees it.
    """

    table: tuple[Size, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def peak(self, table: Sequence[int]) -> int:
        """The most bytes in use, holes included. table: the bytes of each entry of `self.table`."""
        offsets, lengths = [0], [_END]  # the holes by address (free_blocks); the last one is the end
        sizes = [table[entry] for entry in self.sizes]
        addresses = [0] * len(sizes)
        top = 0
        for step in self.steps:
            if step >= 0:
                # ggml_dyn_tallocr_alloc, best fit. `<=` prefers the later of two equal holes, as the C loop does.
                size, least, best = sizes[step], _END, 0
                for hole, length in enumerate(lengths):
                    if size <= length <= least:
                        best, least = hole, length
                addresses[step] = address = offsets[best]
                if least > size:
                    offsets[best] = address + size
                    lengths[best] = least - size
                    if address + size > top and best == len(lengths) - 1:
                        top = address + size
                else:
                    del offsets[best], lengths[best]
            else:
                _free(offsets, lengths, addresses[~step], sizes[~step])
        return top


def _free(offsets: list[int], lengths: list[int], address: int, size: int) -> None:
    """ggml_dyn_tallocr_free_bytes: joins the first hole it touches, and that hole's other neighbour."""
    for hole, offset in enumerate(offsets):
        if offset + lengths[hole] == address:
            lengths[hole] += size
            if hole + 1 < len(offsets) and offset + lengths[hole] == offsets[hole + 1]:
                lengths[hole] += lengths.pop(hole + 1)
                del offsets[hole + 1]
            return
        if address + size == offset:
            offsets[hole] = address
            lengths[hole] += size
            if hole and offsets[hole - 1] + lengths[hole - 1] == address:
                lengths[hole - 1] += lengths.pop(hole)
                del offsets[hole]
            return
    hole = 0
    while hole < len(offsets) and offsets[hole] <= address:
        hole += 1
    if hole == len(offsets):  # an empty tensor inside the end
        return
    offsets.insert(hole, address)
    lengths.insert(hole, size)
