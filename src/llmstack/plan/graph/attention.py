"""A block's attention: build_qkv and build_attn (src/llama-graph.cpp), and latent attention (deepseek2.cpp)."""

from __future__ import annotations

from llmstack.plan.facts import BlockFacts
from llmstack.plan.graph.context import GraphContext
from llmstack.plan.graph.recurrent import fetch_next_state
from llmstack.plan.graph.sizes import KEYS, VALUES, row


def attention(graph: GraphContext, block: BlockFacts, normed: int, residual: int) -> int:
    """build_qkv, build_attn and the sum with the residual. Returns the new residual's number."""
    nodes = graph.nodes
    size = row(block.heads * block.head_dim)
    full_query, query = _query(graph, block, normed)
    if graph.facts.has_window:  # build_attn of llm_graph_input_attn_kv_iswa expands K first
        key = _key(graph, block, normed)
        value = _value(graph, block, normed)
    else:  # that of llm_graph_input_attn_kv expands V first, so that K's rotation may write into the cache
        value = _value(graph, block, normed)
        key = _key(graph, block, normed)
    result = _attend(graph, block, query, key, value)
    if graph.arch.early_state:
        fetch_next_state(graph)
    if graph.rotates_v:  # V was rotated before it was quantised: the result is rotated back
        result = nodes.allocate(size, graph.rotation(block, value=True), result)
    if full_query is not None:  # build_layer_attn of qwen3next, qwen35: cont of the gate's view, sigmoid, product
        gate = nodes.in_place(size, nodes.allocate(size, full_query))
        result = nodes.in_place(size, gate, result)
    return nodes.in_place(graph.width, nodes.allocate(graph.width, result), residual)


def _query(graph: GraphContext, block: BlockFacts, normed: int) -> tuple[int | None, int]:
    """The query with its gate, where the matrix gives both, and the query alone."""
    nodes, arch = graph.nodes, graph.arch
    size = row(block.heads * block.head_dim)
    positions = (graph.positions(),) if arch.rope else ()
    full_query = None
    if arch.query_gate:  # one product of twice the width; the query is a view of it, normed and rotated apart
        full_query = nodes.allocate(row(2 * block.heads * block.head_dim), normed)
        query = nodes.allocate(size, full_query, *positions)
    else:
        query = nodes.allocate(size, normed)
        if arch.rope:  # rotated, or normed: neither in place, as its source is a reshaped view of the product
            query = nodes.allocate(size, query, *positions)
    if graph.rotates_k:  # llama_mul_mat_hadamard: Q must be rotated as the cached K is
        query = nodes.allocate(size, graph.rotation(block), query)
    return full_query, query


def _key(graph: GraphContext, block: BlockFacts, normed: int) -> int:
    nodes, size = graph.nodes, row(block.k_width)
    key = nodes.allocate(size, normed)
    if graph.arch.rope:
        key = nodes.allocate(size, key, graph.positions())
    return nodes.allocate(size, graph.rotation(block), key) if graph.rotates_k else key


def _value(graph: GraphContext, block: BlockFacts, normed: int) -> int:
    nodes, size = graph.nodes, row(block.k_width)
    value = nodes.allocate(size, normed)
    if graph.arch.value_norm:  # ggml_rms_norm of a reshaped view
        value = nodes.allocate(size, value)
    return nodes.allocate(size, graph.rotation(block, value=True), value) if graph.rotates_v else value


def _attend(graph: GraphContext, block: BlockFacts, query: int, key: int, value: int) -> int:
    """cpy_k, cpy_v (src/llama-kv-cache.cpp), then build_attn_mha's flash attention over the whole cache."""
    nodes, kind = graph.nodes, block.kind
    size = row(block.heads * block.head_dim)
    if not graph.cache_in_ram:
        nodes.consume(key, graph.cells("K", kind))
        nodes.consume(value, graph.cells("V", kind))
        return nodes.allocate(size, query, graph.mask(kind))
    if graph.arch.early_state:
        # The next recurrent block's state, which is in RAM, comes before the attention's result is needed: the
        # scheduler leaves attention itself on the host, and only its result is copied back.
        nodes.consume(key, value, query)
        graph.host_works()
        return nodes.copy_in(size)
    nodes.consume(key, value)
    graph.host_works()
    # The host has written K and V to the cache; flash attention runs here, on copies of the block's whole cache.
    cache = nodes.copy_in(((KEYS[kind], block.k_width),)), nodes.copy_in(((VALUES[kind], block.v_width),))
    return nodes.allocate(size, query, *cache, graph.mask(kind))


def latent_attention(graph: GraphContext, block: BlockFacts, normed: int, residual: int) -> int:
    """src/models/deepseek2.cpp with is_mla: the query is absorbed into the latent space (wk_b).

    Only the latent row is cached; V is a view of K (build_attn of llm_graph_input_attn_k).
    """
    nodes, heads, kind = graph.nodes, block.heads, block.kind
    lora, rope, k_mla, v_mla = graph.facts.latent
    plain = nodes.allocate(row(heads * k_mla), normed)  # wq_b's product
    absorbed = nodes.allocate(row(heads * lora), plain)
    rotated = nodes.allocate(row(heads * rope), plain, graph.positions())
    query = nodes.allocate(row(heads * (lora + rope)), absorbed, rotated)  # ggml_concat
    latent = nodes.allocate(row(lora + rope), normed)  # wkv_a_mqa's product
    normed_latent = nodes.allocate(row(lora), latent)
    rotated_key = nodes.allocate(row(rope), latent, graph.positions())
    key = nodes.allocate(row(lora + rope), normed_latent, rotated_key)
    if graph.cache_in_ram:
        nodes.consume(key)
        graph.host_works()
        # The scheduler copies K, and the view of it that is V once more.
        cache = nodes.copy_in(((KEYS[kind], block.k_width),)), nodes.copy_in(((KEYS[kind], block.k_width),))
        result = nodes.allocate(row(heads * lora), query, *cache, graph.mask(kind))
    else:
        nodes.consume(key, graph.cells("K", kind))
        result = nodes.allocate(row(heads * lora), query, graph.mask(kind))
    # build_attn_mha with v_mla: wv_b's product, then cont of its permuted view
    result = nodes.allocate(row(heads * v_mla), result)
    result = nodes.allocate(row(heads * v_mla), result)
    return nodes.in_place(graph.width, nodes.allocate(graph.width, result), residual)
