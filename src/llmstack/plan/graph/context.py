"""What the parts of a block's graph share: its inputs, and where the host takes over (llm_graph_context)."""

from __future__ import annotations

from typing import NamedTuple

from llmstack.plan.allocator import NodeList, Size
from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts
from llmstack.plan.graph.sizes import BYTES, MASK, SEQUENCE, per_sequence, row


class InRam(NamedTuple):
    """Whether a block's experts (-ncmoe), and its dense feed-forward weights (-ncffn), are in RAM."""

    experts: bool
    dense: bool


class GraphContext:
    """The nodes written so far, and the inputs that several blocks read.

    rotated: K, and V, are rotated before they are quantised. cache_in_ram: -nkvo, cache and state are in RAM, so the
    host works on them between two splits.
    """

    def __init__(self, facts: ModelFacts, *, rotated: tuple[bool, bool], cache_in_ram: bool) -> None:
        self.facts = facts
        self.arch = facts.architecture
        self.nodes = NodeList()
        self.width = row(facts.n_embd)  # of the residual stream
        self.rotates_k, self.rotates_v = rotated
        self.cache_in_ram = cache_in_ram
        self.following: tuple[BlockFacts, ...] = ()  # blocks after the one at hand
        self.in_ram = InRam(experts=False, dense=False)
        self.state_read: int | None = None  # the next Mamba block's convolution state, when it was read already
        self._inputs: dict[tuple[str, BlockKind | None], int] = {}

    def shared_input(self, what: str, size: Size, kind: BlockKind | None = None) -> int:
        """An input of the graph that many blocks read, copied to the device once (llm_graph_result.add_input)."""
        if (what, kind) not in self._inputs:
            self._inputs[what, kind] = self.nodes.copy_in(size)
        return self._inputs[what, kind]

    def shared_inputs(self) -> tuple[int, ...]:
        return tuple(self._inputs.values())

    def host_works(self) -> None:
        """The host reads or writes cache or state here when they are in RAM: a new split begins."""
        if self.cache_in_ram:
            self.nodes.split()

    def positions(self) -> int:
        """build_inp_pos: one int32 per token, four with multi-axis rotation."""
        return self.shared_input("positions", row(self.arch.positions_per_token))

    def mask(self, kind: BlockKind) -> int:
        """build_attn_inp_kq_mask: one per kind of cache."""
        return self.shared_input("mask", ((MASK[kind], 1),), kind)

    def cells(self, side: str, kind: BlockKind) -> int:
        """build_input_k_idxs, build_input_v_idxs (src/llama-kv-cache.cpp): an int64 per token, the cell to write."""
        return self.shared_input(f"cells of {side}", row(2), kind)

    def rotation(self, block: BlockFacts, *, value: bool = False) -> int:
        """The F32 matrix that rotates K or V: build_input_k_rot, build_input_v_rot (src/llama-kv-cache.cpp).

        K's is as large as the largest power of two that divides a head, V's 64 by 64.
        """
        side = 64 if value else block.head_dim & -block.head_dim
        return self.shared_input("turns V" if value else "turns K", ((BYTES, 4 * side * side),), block.kind)

    def output_rows(self) -> int:
        """build_inp_out_ids: an int32 per output."""
        return self.shared_input("rows of the output", per_sequence(1))

    def state(self, size: int) -> int:
        """A recurrent block's state (build_rs): gathered by get_rows, or copied from RAM."""
        if self.cache_in_ram:
            return self.nodes.copy_in(per_sequence(size))
        return self.nodes.allocate(((SEQUENCE, size),), self.shared_input("states", per_sequence(1)))

    def read_state_ahead(self) -> None:
        """Reads a Mamba block's convolution state before the block begins.

        build_mamba2_layer calls build_rs, which expands the gather at once, while the block's norm is expanded only
        with what reads it: so the state comes first.
        """
        self.state_read = self.state(self.facts.state_r)
