"""The tensors of one GPU's part of the graph, in the order in which llama.cpp computes them.

The order is that of llama.cpp's own graphs (GGML_SCHED_DEBUG=2), build 11434: build_attn, build_ffn and
build_moe_ffn (src/llama-graph.cpp), the files of src/models. Where the host computes in between (experts or
feed-forward weights in RAM, the cache with -nkvo), a new part of the graph begins, and what it reads is copied at
its start. Tensors below a row per head are left out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from llmstack.plan.allocator import Program, Size, Tape
from llmstack.plan.facts import DELTA_NET, MAMBA, UNGATED, Block, Facts, Kind

ROW, SEQUENCE, OTHERS = "F32 per token", "F32 per sequence", "F32 per sequence but one"
GATED_SHARED = DELTA_NET | {"qwen2moe"}  # the shared expert's gate reads the input after it
BIASED = frozenset({"deepseek2", "glm4moe", "nemotron_h_moe"})  # experts are chosen by scores with a bias
NORMED = frozenset({"qwen3moe", "qwen3next", "qwen35moe", "gemma4", "granitehybrid"})  # their weights sum to 1
BYTES = "bytes"
SCALED = frozenset({"gemma3", "gemma4"})  # the embedding is multiplied by a scale per token
MASK = {Kind.FULL: "mask", Kind.WINDOW: "window mask"}
KEYS = {Kind.FULL: "K", Kind.WINDOW: "window K"}
VALUES = {Kind.FULL: "V", Kind.WINDOW: "window V"}


Placed = tuple[bool, bool]  # whether a block's experts, and its dense feed-forward weights, are in RAM


class Entry(enum.Enum):
    """Where the input of a device's first block comes from, when it is not a block on the host."""

    INPUT = "embeddings"
    DEVICE = "another GPU"


def _row(amount: int) -> Size:
    return ((ROW, amount),)


class Walk:
    """Writes blocks on a tape, one after the other.

    turned: K, and V, are rotated before they are quantised. apart: -nkvo, cache and state are in RAM.
    """

    def __init__(self, facts: Facts, *, turned: tuple[bool, bool], apart: bool) -> None:
        self.facts = facts
        self.tape = Tape()
        self._turned = turned
        self._apart = apart
        self._d = _row(facts.n_embd)
        self._inputs: dict[tuple[str, Kind | None], int] = {}
        self._rest: tuple[Block, ...] = ()
        self._in_ram: Placed = (False, False)
        self._last = False
        self._state_r: int | None = None

    def program(
        self,
        blocks: tuple[Block, ...],
        in_ram: tuple[Placed, ...],
        before: Block | Entry,
        mixer: Kind = Kind.NONE,
        *,
        ends: bool,
    ) -> Program:
        """before: the last block on the host, or where else the first block's input comes from.

        mixer: what the last block on the host that keeps something keeps.
        ends: the last block is the model's, whose feed-forward part sees only the rows of the output.
        """
        if before is Entry.INPUT:
            residual = self._input()
        elif before is Entry.DEVICE:
            residual = self.tape.input(self._d)
        else:
            residual = self._entry(before, mixer, blocks)
        for number, block in enumerate(blocks):
            self._rest = blocks[number + 1 :]
            self._in_ram = in_ram[number]
            self._last = ends and not self._rest
            residual = self._block(block, residual)
        rows = [self._shared("rows of the output", ((SEQUENCE, 1),))] if ends or not self._apart else []
        # blocks that are left out would read the inputs to the end
        self.tape.read(residual, *(rows if ends else self._inputs.values()))
        return self.tape.program()

    def _shared(self, what: str, size: Size, kind: Kind | None = None) -> int:
        """An input that several blocks read: positions, masks, the cells to write, rotations, sequences."""
        if (what, kind) not in self._inputs:
            self._inputs[what, kind] = self.tape.input(size)
        return self._inputs[what, kind]

    def _part(self) -> None:
        """The host works on cache or state here when they are in RAM."""
        if self._apart:
            self.tape.part()

    def _entry(self, before: Block, mixer: Kind, blocks: tuple[Block, ...]) -> int:
        """What follows the host's last matrix needs no weights, so it runs on the device already (expand gpu up)."""
        tape, d, facts = self.tape, self._d, self.facts
        wide, one = _row(facts.n_expert_used * facts.n_embd), _row(1)
        ahead = not self._apart and facts.arch in MAMBA
        if not before.experts or facts.arch == "gemma4":
            first = next((block for block in blocks if block.kind is not Kind.NONE or block.experts), None)
            if ahead and facts.arch == "nemotron_h" and first is not None and first.kind is Kind.RECURRENT:
                self._state_ahead()
                if mixer is Kind.RECURRENT:  # a copy without weights follows, of a part of that block's projection
                    width = 2 * (facts.ssm_inner + facts.ssm_groups * facts.ssm_state) + facts.ssm_rank
                    tape.read(tape.new(_row(facts.ssm_inner), tape.input(_row(width))))
                tape.part()
            return tape.over(d, tape.input(d), tape.input(d))
        if before.shared_ff and ahead and blocks[0].kind is Kind.RECURRENT:
            routed = self._sum(tape.over(wide, tape.input(wide), tape.input(_row(facts.n_expert_used))))
            self._state_ahead()
            tape.part()
            return tape.over(d, tape.over(d, routed, tape.input(d)), tape.input(d))
        if before.shared_ff:
            if facts.arch not in GATED_SHARED:
                shared = tape.input(d)
            else:  # silu(x) / x, or a sigmoid
                gate = tape.input(one)
                gate = tape.over(one, *((tape.new(one, gate), gate) if facts.arch == "qwen2moe" else (gate,)))
                shared = tape.over(d, tape.input(d), gate)
            return tape.over(d, tape.over(d, tape.input(d), shared), tape.input(d))
        result, weights = tape.input(wide), tape.input(_row(facts.n_expert_used))
        return tape.over(d, self._sum(tape.over(wide, result, weights)), tape.input(d))

    def _input(self) -> int:
        """Embeddings of tokens and of mixed inputs; what set_rows writes them to is a view that nothing frees."""
        tape, d = self.tape, self._d
        if self._apart and self.facts.arch in MAMBA:  # the host mixes them, because it reads the first state
            return tape.input(d)
        mixed, rows, slots = tape.input(d), tape.input(d), tape.input(_row(2))
        kept = tape.new(d, mixed)
        tape.read(rows, slots)
        del kept
        if self.facts.arch not in SCALED:
            return tape.input(d)
        return tape.over(d, tape.input(d), tape.input(_row(1)))

    def _block(self, block: Block, residual: int) -> int:
        tape, d = self.tape, self._d
        if block.kind is Kind.RECURRENT and self.facts.arch not in DELTA_NET and self._state_r is None:
            self._state_ahead()
        normed = tape.over(d, residual)
        if block.kind is Kind.RECURRENT:
            part = self._delta_net if self.facts.arch in DELTA_NET else self._mamba
            residual = part(normed, residual)
        elif block.kind is not Kind.NONE:
            residual = (self._latent if self.facts.mla else self._attention)(block, normed, residual)
        elif block.experts or block.ff:  # nemotron-h: a block is only its feed-forward part
            return self._feed_forward(block, normed, residual)
        if self._last or not (block.experts or block.ff):
            return residual
        if self.facts.arch == "gemma4" and block.experts:
            return self._both(block, residual)
        return self._feed_forward(block, tape.over(d, residual), residual)

    def _attention(self, block: Block, normed: int, residual: int) -> int:
        tape, facts = self.tape, self.facts
        q, kv = _row(block.heads * block.head_dim), _row(block.k_width)
        turn_k, turn_v = self._turned
        kind, full = block.kind, None
        at = () if facts.arch in UNGATED else (self._positions(),)  # nemotron-h has no positions
        if facts.arch in DELTA_NET:  # the gate comes with the query
            full = tape.new(_row(2 * block.heads * block.head_dim), normed)
            query = tape.new(q, full, *at)
        else:
            query = tape.new(q, normed)
            if facts.arch not in UNGATED:
                query = tape.new(q, query, *at)  # rotated, or normed, from a reshaped view
        if turn_k:
            query = tape.new(q, self._rotation(block), query)

        def keys() -> int:
            key = tape.new(kv, normed)
            if facts.arch not in UNGATED:
                key = tape.new(kv, key, *at)
            return tape.new(kv, self._rotation(block), key) if turn_k else key

        def values() -> int:
            value = tape.new(kv, normed)
            if facts.arch == "gemma4":
                value = tape.new(kv, value)
            return tape.new(kv, self._rotation(block, value=True), value) if turn_v else value

        if facts.has_window:
            key, value = keys(), values()
        else:
            value = values()
            key = keys()
        if not self._apart:
            tape.read(key, self._shared("cells of K", _row(2), kind))
            tape.read(value, self._shared("cells of V", _row(2), kind))
            out = tape.new(q, query, self._mask(kind))
        elif facts.arch == "nemotron_h":  # the next recurrent block's state comes first, and attention stays with it
            tape.read(key, value, query)
            self._part()
            out = tape.input(q)
        else:
            tape.read(key, value)
            self._part()
            copied = tape.input(((KEYS[kind], block.k_width),)), tape.input(((VALUES[kind], block.v_width),))
            out = tape.new(q, query, *copied, self._mask(kind))
        if facts.arch == "nemotron_h":
            self._fetch_state()
        if turn_v:
            out = tape.new(q, self._rotation(block, value=True), out)
        if full is not None:
            gate = tape.over(q, tape.new(q, full))
            out = tape.over(q, gate, out)
        return tape.over(self._d, tape.new(self._d, out), residual)

    def _latent(self, block: Block, normed: int, residual: int) -> int:
        """src/models/deepseek2.cpp: the query is absorbed into the latent space; V is a view of K, copied too."""
        tape, heads = self.tape, block.heads
        lora, rope, k_mla, v_mla = self.facts.latent
        plain = tape.new(_row(heads * k_mla), normed)
        absorbed = tape.new(_row(heads * lora), plain)
        turned = tape.new(_row(heads * rope), plain, self._positions())
        query = tape.new(_row(heads * (lora + rope)), absorbed, turned)
        latent = tape.new(_row(lora + rope), normed)
        key = tape.new(_row(lora + rope), tape.new(_row(lora), latent), tape.new(_row(rope), latent, self._positions()))
        kind = block.kind
        if self._apart:
            tape.read(key)
            self._part()
            copied = tape.input(((KEYS[kind], block.k_width),)), tape.input(((KEYS[kind], block.k_width),))
            out = tape.new(_row(heads * lora), query, *copied, self._mask(kind))
        else:
            tape.read(key, self._shared("cells of K", _row(2), kind))
            out = tape.new(_row(heads * lora), query, self._mask(kind))
        out = tape.new(_row(heads * v_mla), out)
        out = tape.new(_row(heads * v_mla), out)
        return tape.over(self._d, tape.new(self._d, out), residual)

    def _positions(self) -> int:
        return self._shared("positions", _row(4 if self.facts.arch in ("qwen35", "qwen35moe") else 1))

    def _rotation(self, block: Block, *, value: bool = False) -> int:
        """The matrix that rotates K or V (build_input_k_rot, build_input_v_rot)."""
        side = 64 if value else block.head_dim & -block.head_dim
        return self._shared("turns V" if value else "turns K", ((BYTES, 4 * side * side),), block.kind)

    def _mask(self, kind: Kind) -> int:
        return self._shared("mask", ((MASK[kind], 1),), kind)

    def _state(self, size: int) -> int:
        """A recurrent block's state: read by get_rows, or copied from RAM."""
        if self._apart:
            return self.tape.input(((SEQUENCE, size),))
        return self.tape.new(((SEQUENCE, size),), self._shared("states", ((SEQUENCE, 1),)))

    def _state_ahead(self) -> None:
        """Mamba's convolution state, read before the block that it belongs to begins."""
        self._state_r = self._state(self.facts.state_r)

    def _delta_net(self, normed: int, residual: int) -> int:
        """src/models/delta-net-base.cpp."""
        tape, facts = self.tape, self.facts
        inner, d = facts.ssm_inner, self._d
        qk = facts.ssm_groups * facts.ssm_state
        width = inner + 2 * qk
        conv = _row(width)
        self._part()
        before = self._state(facts.state_r)
        mixed = tape.new(conv, normed)
        joined = tape.new(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
        tape.read(joined)
        self._part()
        state = self._state(facts.state_s)
        conv_out = tape.over(conv, tape.new(conv, joined))
        parts = []
        for _ in range(2):
            part = tape.new(_row(qk), conv_out)
            parts.append(tape.new(_row(inner), part) if facts.arch == "qwen3next" else part)
        rank = _row(facts.ssm_rank)
        if facts.arch == "qwen3next":
            both = tape.new(_row(2 * facts.ssm_rank), normed)
            decay, beta = tape.new(rank, both), tape.new(rank, both)
        else:
            decay, beta = tape.new(rank, normed), tape.new(rank, normed)
        scanned = tape.new(((ROW, inner), (SEQUENCE, facts.state_s)), *parts, conv_out, decay, beta, state)
        tape.read(scanned)
        self._part()
        out = tape.new(_row(inner), scanned)
        gate = tape.new(_row(inner), tape.new(_row(inner), normed))
        out = tape.over(_row(inner), out, gate)
        return tape.over(d, residual, tape.new(d, out))

    def _mamba(self, normed: int, residual: int) -> int:
        """src/models/mamba-base.cpp (build_mamba2_layer); the scan reads the cache itself when it is at hand."""
        tape, facts = self.tape, self.facts
        inner, d = facts.ssm_inner, self._d
        width = inner + 2 * facts.ssm_groups * facts.ssm_state
        before, self._state_r = self._state_r, None
        assert before is not None
        mixed = tape.new(_row(inner + width + facts.ssm_rank), normed)
        joined = tape.new(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
        tape.read(joined)
        self._part()
        states = (tape.input(((SEQUENCE, facts.state_s),)),) if self._apart else ()
        mine = self._shared("sequences", ((SEQUENCE, 1),))  # which sequence each state belongs to
        conv_out = tape.over(_row(width), tape.new(_row(width), joined))
        step = tape.new(_row(facts.ssm_rank), mixed)
        scanned = tape.new(((ROW, inner), (SEQUENCE, facts.state_s)), *states, conv_out, step, mine)
        states = (tape.input(((SEQUENCE, facts.state_s),)),) if self._apart else ()
        tape.read(tape.new(((OTHERS, facts.state_s),), *states, self._shared("other sequences", ((OTHERS, 1),))))
        tape.read(scanned)
        self._part()
        self._fetch_state()
        gate = tape.new(_row(inner), mixed)
        skipped = tape.new(_row(inner), conv_out)
        out = tape.over(_row(inner), skipped, scanned)
        out = tape.new(_row(inner), gate, out)
        out = tape.new(_row(inner), out)
        return tape.over(d, tape.new(d, out), residual)

    def _fetch_state(self, *, moe: bool = False) -> None:
        """The next recurrent block's state is read as soon as its nodes come up, which experts hold back."""
        for block in self._rest[:1] if moe else self._rest:
            if block.kind is Kind.RECURRENT and (moe or self.facts.arch == "nemotron_h"):
                self._part()
                self._state_ahead()
            if block.kind is not Kind.NONE or block.experts:
                return

    def _feed_forward(self, block: Block, normed: int, residual: int) -> int:
        tape, d = self.tape, self._d
        if block.experts:
            out = self._experts(block, normed, normed)
            if self.facts.arch in MAMBA:
                self._fetch_state(moe=True)
            if block.shared_ff:
                shared = self._gated(block.shared_ff, normed)
                if self.facts.arch in GATED_SHARED:
                    tape.read(normed)
                out = tape.over(d, out, shared)
        else:
            out = self._dense(block.ff, normed)
        return tape.over(d, out, residual)

    def _both(self, block: Block, residual: int) -> int:
        """gemma4 with experts: a router, the experts, and a dense part, each with a norm of its own."""
        tape, d = self.tape, self._d
        routed = tape.over(d, residual)
        experts = self._experts(block, routed, -1, lambda: tape.over(d, residual))
        dense = self._dense(block.ff or block.shared_ff, tape.over(d, residual))
        return tape.over(d, tape.over(d, dense, experts), residual)

    def _dense(self, width: int, normed: int) -> int:
        if not self._in_ram[1]:
            return self._gated(width, normed)
        self.tape.read(normed)
        self.tape.part()
        return self.tape.input(self._d)

    def _gated(self, width: int, normed: int) -> int:
        tape, ff = self.tape, _row(width)
        if self.facts.arch in UNGATED:
            return tape.new(self._d, tape.over(ff, tape.new(ff, normed)))
        return tape.new(self._d, tape.new(ff, tape.new(ff, normed), tape.new(ff, normed)))

    def _experts(self, block: Block, routed: int, normed: int, later: Callable[[], int] | None = None) -> int:
        tape, facts = self.tape, self.facts
        k = facts.n_expert_used
        every, inner, wide = _row(facts.n_expert), _row(k * block.ffe), _row(k * facts.n_embd)
        scores = tape.over(every, tape.new(every, routed))
        order = tape.new(every, tape.over(every, scores) if facts.arch in BIASED else scores)
        weights = tape.new(_row(k), scores, order)
        if facts.arch in NORMED:
            weights = tape.new(_row(k), weights, tape.new(_row(1), weights))
        if later is not None:
            normed = later()
        if self._in_ram[0]:
            tape.read(normed, order)
            tape.part()
            return self._sum(tape.over(wide, tape.input(wide), weights))
        if facts.arch in UNGATED:
            product = tape.over(inner, tape.new(inner, normed, order))
        elif facts.arch == "gemma4":  # gate and up are one matrix
            both = tape.new(_row(2 * k * block.ffe), normed, order)
            product = tape.new(inner, both)
        else:
            product = tape.new(inner, tape.new(inner, normed, order), tape.new(inner, normed, order))
        return self._sum(tape.over(wide, tape.new(wide, product, order), weights))

    def _sum(self, weighted: int) -> int:
        """One row from k rows, by k - 1 additions."""
        total = self.tape.new(self._d, weighted, weighted)
        for _ in range(self.facts.n_expert_used - 2):
            total = self.tape.over(self._d, total, weighted)
        return total


def host_beside(facts: Facts, inner: int, out: int, chosen: int) -> Program:
    """The host's part when it computes experts or feed-forward weights of a model with one kind of attention.

    Its inputs come first and are free again after their copies, the mask too. Rows: of up and gate, of the result,
    of the choice of experts.
    """
    tape, d = Tape(), _row(facts.n_embd)
    tokens, mixed_tokens = tape.new(_row(1)), tape.new(_row(1))
    tape.new(d)  # embeddings instead of tokens: nothing reads them
    slots, mixed, positions = tape.new(_row(2)), tape.new(d), tape.new(_row(1))
    cells, mask = (tape.new(_row(2)), tape.new(_row(2))), tape.new(((MASK[Kind.FULL], 1),))
    tape.new(((SEQUENCE, 1),))  # which rows the output needs: read after these blocks
    embedded = tape.new(d, tokens)
    looked_up = tape.new(d, mixed_tokens)
    for tensor in (mixed, looked_up, slots, embedded, positions, *cells, mask):
        tape.read(tensor)
    for _ in range(2):
        normed, choice = tape.new(d), tape.new(_row(chosen))
        product = tape.new(_row(inner), tape.new(_row(inner), normed, choice), tape.new(_row(inner), normed, choice))
        tape.read(tape.new(_row(out), product, choice))
    return tape.program()
