"""Recurrent blocks: gated delta nets (src/models/delta-net-base.cpp) and Mamba-2 (src/models/mamba-base.cpp)."""

from __future__ import annotations

from llmstack.plan.facts import BlockKind
from llmstack.plan.graph.context import GraphContext
from llmstack.plan.graph.sizes import OTHER_SEQUENCES, ROW, SEQUENCE, per_sequence, row


def delta_net(graph: GraphContext, normed: int, residual: int) -> int:
    """build_layer_attn_linear of qwen3next.cpp and qwen35.cpp, with the fused operation (build_delta_net_fused)."""
    nodes, facts, arch = graph.nodes, graph.facts, graph.arch
    inner = facts.ssm_inner
    qk = facts.ssm_groups * facts.ssm_state
    width = inner + 2 * qk
    conv = row(width)
    # build_conv_state: the last tokens' inputs before the new ones; the end of both is stored
    graph.host_works()
    before = graph.state(facts.state_r)
    mixed = nodes.allocate(conv, normed)  # build_qkvz: wqkv's product
    joined = nodes.allocate(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
    nodes.consume(joined)
    graph.host_works()
    state = graph.state(facts.state_s)
    conv_out = nodes.in_place(conv, nodes.allocate(conv, joined))  # ggml_ssm_conv, then silu in place
    query_key = []
    for _ in range(2):
        part = nodes.allocate(row(qk), conv_out)  # ggml_l2_norm of a view
        query_key.append(nodes.allocate(row(inner), part) if arch.key_heads_repeated else part)
    rank = row(facts.ssm_rank)
    if arch.beta_alpha_fused:
        both = nodes.allocate(row(2 * facts.ssm_rank), normed)
        decay, beta = nodes.allocate(rank, both), nodes.allocate(rank, both)
    else:
        decay, beta = nodes.allocate(rank, normed), nodes.allocate(rank, normed)
    # ggml_gated_delta_net returns the result with the new state behind it
    size = ((ROW, inner), (SEQUENCE, facts.state_s))
    scanned = nodes.allocate(size, *query_key, conv_out, decay, beta, state)
    nodes.consume(scanned)  # the new state is stored
    graph.host_works()
    result = nodes.allocate(row(inner), scanned)  # build_norm_gated: norm(result) * silu(z)
    gate = nodes.allocate(row(inner), nodes.allocate(row(inner), normed))
    result = nodes.in_place(row(inner), result, gate)
    return nodes.in_place(graph.width, residual, nodes.allocate(graph.width, result))


def mamba2(graph: GraphContext, normed: int, residual: int) -> int:
    """build_mamba2_layer; ggml_ssm_scan reads the states in the cache itself where they are at hand."""
    nodes, facts = graph.nodes, graph.facts
    inner, state_size = facts.ssm_inner, facts.state_s
    width = inner + 2 * facts.ssm_groups * facts.ssm_state
    before, graph.state_read = graph.state_read, None
    assert before is not None  # read_state_ahead came first
    mixed = nodes.allocate(row(inner + width + facts.ssm_rank), normed)  # zxBCdt: gate, input, B, C and steps
    joined = nodes.allocate(((ROW, width), (SEQUENCE, facts.state_r)), before, mixed)
    nodes.consume(joined)  # the new convolution state is stored
    graph.host_works()
    states = (nodes.copy_in(per_sequence(state_size)),) if graph.cache_in_ram else ()
    owners = graph.shared_input("sequences", per_sequence(1))  # s_copy_main: which sequence each state belongs to
    conv_out = nodes.in_place(row(width), nodes.allocate(row(width), joined))
    step = nodes.allocate(row(facts.ssm_rank), mixed)
    scanned = nodes.allocate(((ROW, inner), (SEQUENCE, state_size)), *states, conv_out, step, owners)
    # build_rs with a getter gathers the states of all other sequences, and stores them where they belong (s_copy_tail)
    states = (nodes.copy_in(per_sequence(state_size)),) if graph.cache_in_ram else ()
    others = graph.shared_input("other sequences", ((OTHER_SEQUENCES, 1),))
    nodes.consume(nodes.allocate(((OTHER_SEQUENCES, state_size),), *states, others))
    nodes.consume(scanned)  # the new state is stored
    graph.host_works()
    if graph.arch.early_state:
        fetch_next_state(graph)
    gate = nodes.allocate(row(inner), mixed)  # ggml_cont of z
    skipped = nodes.allocate(row(inner), conv_out)  # x * D
    result = nodes.in_place(row(inner), skipped, scanned)
    result = nodes.allocate(row(inner), gate, result)  # ggml_swiglu_split
    result = nodes.allocate(row(inner), result)  # grouped norm of a reshaped view
    return nodes.in_place(graph.width, nodes.allocate(graph.width, result), residual)


def fetch_next_state(graph: GraphContext) -> None:
    """Reads the state of the next recurrent block, when no block in between keeps or computes anything else.

    build_rs expands its gather as soon as it is called, and the scheduler computes nodes in the order in which they
    were expanded; results that only the residual reads come later. Blocks of dense feed-forward weights expand nothing
    early, so the read moves before them.
    """
    for block in graph.following:
        if block.kind is BlockKind.RECURRENT:
            graph.host_works()
            graph.read_state_ahead()
        if block.kind is not BlockKind.NONE or block.experts:
            return


def fetch_state_after_experts(graph: GraphContext) -> None:
    """The same where a block has experts: build_moe_ffn expands its result, so only the next block's state moves."""
    if graph.following and graph.following[0].kind is BlockKind.RECURRENT:
        graph.host_works()
        graph.read_state_ahead()
