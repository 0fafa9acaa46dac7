"""A block's feed-forward part: build_ffn and build_moe_ffn (src/llama-graph.cpp)."""

from __future__ import annotations

from collections.abc import Callable

from llmstack.plan.allocator import NodeList, Program
from llmstack.plan.architectures import SharedGate
from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts
from llmstack.plan.graph.context import GraphContext
from llmstack.plan.graph.recurrent import fetch_state_after_experts
from llmstack.plan.graph.sizes import MASK, per_sequence, row


def feed_forward(graph: GraphContext, block: BlockFacts, normed: int, residual: int) -> int:
    """The experts with their shared one, or the dense part, and the sum. Returns the new residual's number."""
    nodes, arch = graph.nodes, graph.arch
    if block.experts:
        result = _experts(graph, block, routed=normed, normed=lambda: normed)
        if arch.mamba2:
            fetch_state_after_experts(graph)
        if block.shared_ff:
            shared = _ffn(graph, block.shared_ff, normed)
            if arch.shared_gate is not SharedGate.NONE:
                nodes.consume(normed)  # the gate is one value per token, but it keeps the input alive until here
            result = nodes.in_place(graph.width, result, shared)
    else:
        result = _dense(graph, block.ff, normed)
    return nodes.in_place(graph.width, result, residual)


def experts_beside_dense(graph: GraphContext, block: BlockFacts, residual: int) -> int:
    """gemma4.cpp with experts: a router, the experts and a dense part, each with a norm of its own.

    The router's norm (`tmp`) is expanded by build_moe_ffn's early expand of the weights, that of the experts only with
    their first product, that of the dense part last, because the sum reads it last.
    """
    nodes, width = graph.nodes, graph.width
    routed = nodes.in_place(width, residual)
    experts = _experts(graph, block, routed=routed, normed=lambda: nodes.in_place(width, residual))
    dense = _dense(graph, block.ff or block.shared_ff, nodes.in_place(width, residual))
    return nodes.in_place(width, nodes.in_place(width, dense, experts), residual)


def _dense(graph: GraphContext, width: int, normed: int) -> int:
    if not graph.in_ram.dense:
        return _ffn(graph, width, normed)
    graph.nodes.consume(normed)  # the host computes it (-ncffn); only its result comes back
    graph.nodes.split()
    return graph.nodes.copy_in(graph.width)


def _ffn(graph: GraphContext, width: int, normed: int) -> int:
    """build_ffn, LLM_FFN_PAR: up, gate and ggml_swiglu_split of both; without a gate relu and square in place."""
    nodes, inner = graph.nodes, row(width)
    if not graph.arch.gated:
        return nodes.allocate(graph.width, nodes.in_place(inner, nodes.allocate(inner, normed)))
    up, gate = nodes.allocate(inner, normed), nodes.allocate(inner, normed)
    return nodes.allocate(graph.width, nodes.allocate(inner, up, gate))


def _experts(graph: GraphContext, block: BlockFacts, *, routed: int, normed: Callable[[], int]) -> int:
    """build_moe_ffn. routed: what the router reads. normed: makes what the experts read, after the choice."""
    nodes, facts, arch = graph.nodes, graph.facts, graph.arch
    used = facts.n_expert_used
    every, inner, wide = row(facts.n_expert), row(used * block.ffe), row(used * facts.n_embd)
    scores = nodes.in_place(every, nodes.allocate(every, routed))  # ffn_moe_logits, ffn_moe_probs
    # ffn_moe_argsort over all experts; ffn_moe_topk is a view of it, so all of it lives on
    order = nodes.allocate(every, nodes.in_place(every, scores) if arch.expert_bias else scores)
    weights = nodes.allocate(row(used), scores, order)  # ggml_get_rows
    if arch.expert_weights_norm:  # divided by their sum; not in place, as the source is a reshaped view
        weights = nodes.allocate(row(used), weights, nodes.allocate(row(1), weights))
    source = normed()
    if graph.in_ram.experts:
        nodes.consume(source, order)  # -ncmoe: the host computes the products, and the last one comes back
        nodes.split()
        return sum_of_experts(graph, nodes.in_place(wide, nodes.copy_in(wide), weights))
    if not arch.gated:
        product = nodes.in_place(inner, nodes.allocate(inner, source, order))
    elif arch.gate_up_fused:  # ffn_moe_gate_up: gate and up are views of one product
        product = nodes.allocate(inner, nodes.allocate(row(2 * used * block.ffe), source, order))
    else:
        up, gate = nodes.allocate(inner, source, order), nodes.allocate(inner, source, order)
        product = nodes.allocate(inner, up, gate)
    down = nodes.allocate(wide, product, order)
    return sum_of_experts(graph, nodes.in_place(wide, down, weights))  # ffn_moe_weighted


def sum_of_experts(graph: GraphContext, weighted: int) -> int:
    """The end of build_moe_ffn: one row from the rows of all chosen experts, by one addition less than there are.

    They are views of one tensor, so the first sum needs memory of its own; the others work in place.
    """
    total = graph.nodes.allocate(graph.width, weighted, weighted)
    for _ in range(graph.facts.n_expert_used - 2):
        total = graph.nodes.in_place(graph.width, total, weighted)
    return total


def host_beside(facts: ModelFacts, inner: int, out: int, chosen: int) -> Program:
    """The host's part when it computes feed-forward weights of a model whose blocks are all on the GPU.

    The graph's inputs (build_inp_embd, build_inp_pos, the cells, the mask, build_inp_out_ids) come first and are free
    again after their copies to the GPU, the mask too: with one kind of attention the products fit its hole.

    inner: values per token of up and of gate; out: of the result; chosen: of the choice of experts.
    """
    nodes, width = NodeList(), row(facts.n_embd)
    tokens, mixed_tokens = nodes.allocate(row(1)), nodes.allocate(row(1))
    nodes.allocate(width)  # embeddings instead of tokens: nothing reads them
    slots, mixed, positions = nodes.allocate(row(2)), nodes.allocate(width), nodes.allocate(row(1))
    cells = nodes.allocate(row(2)), nodes.allocate(row(2))
    mask = nodes.allocate(((MASK[BlockKind.FULL], 1),))
    nodes.allocate(per_sequence(1))  # which rows the output needs: read after these blocks
    embedded = nodes.allocate(width, tokens)
    looked_up = nodes.allocate(width, mixed_tokens)
    for tensor in (mixed, looked_up, slots, embedded, positions, *cells, mask):
        nodes.consume(tensor)
    for _ in range(2):  # two blocks: the second one finds the holes of the first
        normed, choice = nodes.allocate(width), nodes.allocate(row(chosen))
        up, gate = nodes.allocate(row(inner), normed, choice), nodes.allocate(row(inner), normed, choice)
        product = nodes.allocate(row(inner), up, gate)
        nodes.consume(nodes.allocate(row(out), product, choice))
    return nodes.program()
