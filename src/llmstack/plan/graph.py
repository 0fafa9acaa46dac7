"""The tensors of one GPU's part of the graph when -nkvo keeps the cache and the recurrent state in RAM.

Each block's K and V cross the bus at the start of a part of the graph (ggml_backend_sched_split_graph copies
the inputs of a split before its first node), so which holes they fit decides the peak. The order of tensors is
that of llama.cpp's own graphs (GGML_SCHED_DEBUG=2), build 11434: build_attn, build_ffn and build_moe_ffn
(src/llama-graph.cpp), the files of src/models. Tensors below a row per head are left out.
"""

from __future__ import annotations

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


def _row(amount: int) -> Size:
    return ((ROW, amount),)


class Walk:
    """Writes blocks on a tape, one after the other. turned: K, and V, are rotated before they are quantised."""

    def __init__(self, facts: Facts, *, turned: tuple[bool, bool]) -> None:
        self.facts = facts
        self.tape = Tape()
        self._turned = turned
        self._d = _row(facts.n_embd)
        self._masks: dict[Kind, int] = {}
        self._met: set[Kind] = set()
        self._rotations: dict[Kind, int] = {}
        self._copies: list[int] = []
        self._positions: int | None = None
        self._rotation_v: int | None = None
        self._rest: tuple[Block, ...] = ()
        self._state_r: int | None = None

    def program(self, blocks: tuple[Block, ...], before: Block | None) -> Program:
        """before: the last block on the host, None on the device that gets the embedded input."""
        residual = self._input(blocks[0]) if before is None else self._entry(before, blocks[0])
        for number, block in enumerate(blocks):
            self._rest = blocks[number + 1 :]
            residual = self._block(block, residual)
        self.tape.read(residual)
        return self.tape.program()

    def _entry(self, before: Block, block: Block) -> int:
        """What follows the host's last matrix needs no weights, so it runs on the device already (expand gpu up)."""
        tape, d, facts = self.tape, self._d, self.facts
        if not before.experts or facts.arch == "gemma4":
            parts = tape.new(d), tape.new(d)
            self._turn(block)
            return tape.over(d, *parts)
        if before.shared_ff:
            shared, routed, residual = tape.new(d), tape.new(d), tape.new(d)
            self._turn(block)
            return tape.over(d, tape.over(d, routed, shared), residual)
        wide = _row(facts.n_expert_used * facts.n_embd)
        result, weights, residual = tape.new(wide), tape.new(_row(facts.n_expert_used)), tape.new(d)
        self._turn(block)
        return tape.over(d, self._sum(tape.over(wide, result, weights)), residual)

    def _input(self, first: Block) -> int:
        """Embeddings of tokens and of mixed inputs; what set_rows writes them to is a view that nothing frees."""
        new = self.tape.new
        if self.facts.arch in MAMBA:
            return new(self._d)
        mixed, rows, slots = new(self._d), new(self._d), new(_row(2))
        embedded = new(self._d)
        scale = new(_row(1)) if self.facts.arch in SCALED else None
        self._turn(first)
        kept = new(self._d, mixed)
        self.tape.read(rows, slots)
        del kept
        return embedded if scale is None else self.tape.over(self._d, embedded, scale)

    def _block(self, block: Block, residual: int) -> int:
        tape, d = self.tape, self._d
        if block.kind is Kind.RECURRENT and self.facts.arch not in DELTA_NET and self._state_r is None:
            self._state_r = tape.new(((SEQUENCE, self.facts.state_r),))
        normed = tape.over(d, residual)
        if block.kind is Kind.RECURRENT:
            part = self._delta_net if self.facts.arch in DELTA_NET else self._mamba
            residual = part(normed, residual)
        elif block.kind is not Kind.NONE:
            residual = (self._latent if self.facts.mla else self._attention)(block, normed, residual)
        elif block.experts or block.ff:  # nemotron-h: a block is only its feed-forward part
            return self._feed_forward(block, normed, residual)
        if not block.experts and not block.ff:
            return residual
        if self.facts.arch == "gemma4" and block.experts:
            return self._both(block, residual)
        return self._feed_forward(block, tape.over(d, residual), residual)

    def _attention(self, block: Block, normed: int, residual: int) -> int:
        tape, facts = self.tape, self.facts
        q, kv = _row(block.heads * block.head_dim), _row(block.k_width)
        turn_k, turn_v = self._turned
        full = -1
        if facts.arch in DELTA_NET:  # the gate comes with the query
            full = tape.new(_row(2 * block.heads * block.head_dim), normed)
            query = tape.new(q, full)
        else:
            query = tape.new(q, normed)
            if facts.arch not in UNGATED:
                query = tape.new(q, query)  # rotated, or normed, from a reshaped view
        if turn_k:
            query = tape.new(q, self._rotations[block.kind], query)

        def keys() -> int:
            key = tape.new(kv, normed)
            if facts.arch not in UNGATED:
                ends = (self._positions,) if facts.arch in MAMBA and self._positions is not None else ()
                key = tape.new(kv, key, *ends)
            return tape.new(kv, self._rotations[block.kind], key) if turn_k else key

        def values() -> int:
            value = tape.new(kv, normed)
            if facts.arch == "gemma4":
                value = tape.new(kv, value)
            return tape.new(kv, value) if turn_v else value

        if facts.has_window:
            key, value = keys(), values()
        else:
            value = values()
            key = keys()
        tape.read(key)
        tape.read(value)
        if facts.arch == "nemotron_h":  # the next recurrent block's state comes first, and attention stays with it
            tape.read(query)
            out = tape.new(q)
            self._fetch_state()
            if turn_v:
                out = tape.new(q, out)
            return tape.over(self._d, tape.new(self._d, out), residual)
        kind = block.kind
        copied = tape.new(((KEYS[kind], block.k_width),)), tape.new(((VALUES[kind], block.v_width),))
        mask = self._mask(kind)
        self._turn(self._rest[0] if self._rest else None)
        out = tape.new(q, query, *copied, mask)
        if turn_v:
            ends = (self._rotation_v,) if facts.arch in MAMBA and self._rotation_v is not None else ()
            out = tape.new(q, out, *ends)
        if full >= 0:
            gate = tape.over(q, tape.new(q, full))
            out = tape.over(q, gate, out)
        return tape.over(self._d, tape.new(self._d, out), residual)

    def _latent(self, block: Block, normed: int, residual: int) -> int:
        """src/models/deepseek2.cpp: the query is absorbed into the latent space; V is a view of K, copied too."""
        tape, heads = self.tape, block.heads
        lora, rope, k_mla, v_mla = self.facts.latent
        plain = tape.new(_row(heads * k_mla), normed)
        absorbed = tape.new(_row(heads * lora), plain)
        turned = tape.new(_row(heads * rope), plain)
        query = tape.new(_row(heads * (lora + rope)), absorbed, turned)
        latent = tape.new(_row(lora + rope), normed)
        key = tape.new(_row(lora + rope), tape.new(_row(lora), latent), tape.new(_row(rope), latent))
        if self._turned[0]:
            query, key = tape.new(_row(heads * (lora + rope)), query), tape.new(_row(lora + rope), key)
        tape.read(key)
        kind = block.kind
        copied = tape.new(((KEYS[kind], block.k_width),)), tape.new(((KEYS[kind], block.k_width),))
        out = tape.new(_row(heads * lora), query, *copied, self._mask(kind))
        out = tape.new(_row(heads * v_mla), out)
        out = tape.new(_row(heads * v_mla), out)
        return tape.over(self._d, tape.new(self._d, out), residual)

    def _turn(self, block: Block | None) -> None:
        """Small inputs that come with the part that holds the first query of a kind, and stay.

        Positions, and the matrices that rotate K and V (build_input_k_rot, build_input_v_rot).
        """
        if block is None or not block.k_width or block.kind in self._met:
            return
        if not self._met and self.facts.arch not in UNGATED:  # nemotron-h has no positions
            self._positions = self.tape.new(_row(4 if self.facts.arch in ("qwen35", "qwen35moe") else 1))
        self._met.add(block.kind)
        side = block.head_dim & -block.head_dim
        if self._turned[0]:
            self._rotations[block.kind] = self.tape.new(((BYTES, 4 * side * side),))
        if self._turned[1]:
            self._rotation_v = self.tape.new(((BYTES, 4 * 64 * 64),))

    def _mask(self, kind: Kind) -> int:
        if kind not in self._masks:
            self._masks[kind] = self.tape.new(((MASK[kind], 1),))
        return self._masks[kind]

    def _delta_net(self, normed: int, residual: int) -> int:
        """src/models/delta-net-base.cpp, with the state's update on the host."""
        tape, facts = self.tape, self.facts
        inner, d = facts.ssm_inner, self._d
        qk = facts.ssm_groups * facts.ssm_state
        width = inner + 2 * qk
        conv = _row(width)
        before = tape.new(((SEQUENCE, facts.state_r),))
        mixed = tape.new(conv, normed)
        joined = tape.new(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
        tape.read(joined)
        state = tape.new(((SEQUENCE, facts.state_s),))
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
        self._turn(self._rest[0] if self._rest else None)
        out = tape.new(_row(inner), scanned)
        gate = tape.new(_row(inner), tape.new(_row(inner), normed))
        out = tape.over(_row(inner), out, gate)
        return tape.over(d, residual, tape.new(d, out))

    def _mamba(self, normed: int, residual: int) -> int:
        """src/models/mamba-base.cpp (build_mamba2_layer), with the state's update on the host."""
        tape, facts = self.tape, self.facts
        inner, d = facts.ssm_inner, self._d
        width = inner + 2 * facts.ssm_groups * facts.ssm_state
        before, self._state_r = self._state_r, None
        assert before is not None
        mixed = tape.new(_row(inner + width + facts.ssm_rank), normed)
        joined = tape.new(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
        tape.read(joined)
        state = tape.new(((SEQUENCE, facts.state_s),))
        first = not self._copies
        if first:  # which sequence each state belongs to
            self._copies.append(tape.new(((SEQUENCE, 1),)))
        others = tape.new(((SEQUENCE, facts.state_s),))
        if first:
            self._copies.append(tape.new(((OTHERS, 1),)))
        conv_out = tape.over(_row(width), tape.new(_row(width), joined))
        step = tape.new(_row(facts.ssm_rank), mixed)
        scanned = tape.new(((ROW, inner), (SEQUENCE, facts.state_s)), state, conv_out, step, self._copies[0])
        tape.read(tape.new(((OTHERS, facts.state_s),), others, self._copies[1]))
        tape.read(scanned)
        self._turn(self._rest[0] if self._rest else None)
        self._fetch_state()
        if all(block.kind is Kind.NONE for block in self._rest):
            tape.new(((SEQUENCE, 1),))  # which rows the output needs: comes with the last part
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
                self._state_r = self.tape.new(((SEQUENCE, self.facts.state_r),))
            if block.kind is not Kind.NONE or block.experts:
                return

    def _feed_forward(self, block: Block, normed: int, residual: int) -> int:
        tape, d = self.tape, self._d
        if block.experts:
            out = self._experts(block, normed, normed)
            if self.facts.arch in MAMBA:
                self._fetch_state(moe=True)
            if block.shared_ff:
                shared = self._dense(block.shared_ff, normed)
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


def representative(arch: str, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The leading blocks with every sort of block twice: from there on the allocator repeats itself.

    All of them where it does not: small inputs of sliding windows end before the last block, and Mamba's
    states leave other holes every time.
    """
    if arch in MAMBA or any(block.kind is Kind.WINDOW for block in blocks):
        return blocks
    seen: dict[tuple[object, ...], int] = {}
    last = 0
    for number, block in enumerate(blocks):
        sort = signature(block)
        seen[sort] = seen.get(sort, 0) + 1
        if seen[sort] <= 2:
            last = number
    return blocks[: last + 2]


def signature(block: Block) -> tuple[object, ...]:
    """What decides a block's tensors."""
    moe = block.experts > 0
    return (block.kind, block.k_width, block.v_width, block.heads, block.ff, block.ffe if moe else 0, block.shared_ff)
