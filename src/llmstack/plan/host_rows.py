"""Rows of what runs on the host: F32 values per token that are alive at once in one of its blocks.

On a GPU the blocks' tensors are replayed one by one (plan.graph); the host's part is described by its widest moment,
with the holes that the allocator's best fit leaves. d = n_embd, k = experts used.

| part on the host   | rows                                                                          |
| ------------------ | ----------------------------------------------------------------------------- |
| gated feed-forward | 3 ff + 5 d: up, gate, their product; residual, norm, input, output, embedding |
| experts            | 3 k ffe + 5 d, and k d more when the result fits no hole (k d > 2 k ffe)      |
| experts alone      | 3 d less                                                                      |

Sources: build_ffn, build_moe_ffn (src/llama-graph.cpp), src/models/delta-net-base.cpp, src/models/mamba-base.cpp.
Checked against llama-server's own report (tests/planning, docs/planner.md).
"""

from __future__ import annotations

from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts


def block_rows(facts: ModelFacts, block: BlockFacts) -> int:
    """Rows of one block that is on the host whole."""
    d = facts.n_embd
    rows = 5 * d
    if block.experts:
        gated = facts.architecture.gated
        rows = max(rows, _moe_rows(facts, block) + (d if gated else 0))
    width = max(block.ff, block.shared_ff)
    if width:
        # granite-hybrid's build_layer_ffn scales what is added to the residual: two more rows beside a dense part
        more = 2 * d if facts.architecture.residual_scaled and block.ff else 0
        rows = max(rows, inner_tensors(facts) * width + 5 * d + more)
    if block.kind is BlockKind.RECURRENT:
        rows = max(rows, _recurrent_rows(facts) + d)
    if facts.mla:
        rows = max(rows, block.heads * facts.latent_row + 4 * d)
    return rows


def expert_rows(facts: ModelFacts, block: BlockFacts) -> int:
    """Rows of one block of which only the experts are on the host; 0 without experts."""
    if not block.experts:
        return 0
    return _moe_rows(facts, block) - (2 if facts.architecture.gated else 3) * facts.n_embd


def inner_tensors(facts: ModelFacts) -> int:
    """Tensors as wide as a dense feed-forward part: up, gate and product, or relu and square in place of up."""
    return 3 if facts.architecture.gated else 1


def _moe_rows(facts: ModelFacts, block: BlockFacts) -> int:
    """build_moe_ffn: up, gate, product, then the result, which reuses a hole only when it fits."""
    d, k, ffe = facts.n_embd, facts.n_expert_used, block.ffe
    if not facts.architecture.gated:
        return k * ffe + k * d + 5 * d
    return 3 * k * ffe + 4 * d + (k * d if d > 2 * ffe else 0)


def conv_width(facts: ModelFacts) -> int:
    """Values per token that a recurrent block's convolution passes over (ssm_conv1d's rows)."""
    return facts.ssm_inner + 2 * facts.ssm_groups * facts.ssm_state


def _recurrent_rows(facts: ModelFacts) -> int:
    d, conv = facts.n_embd, conv_width(facts)
    if facts.architecture.delta_net:
        return 2 * conv + 4 * d
    return 3 * conv + 2 * facts.ssm_inner + facts.ssm_rank + 4 * d
