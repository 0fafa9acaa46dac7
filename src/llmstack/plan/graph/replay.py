"""The blocks of one device in order, and where their input comes from (graph constructors of src/models/*.cpp)."""

from __future__ import annotations

import enum

from llmstack.plan.allocator import Program
from llmstack.plan.architectures import SharedGate
from llmstack.plan.facts import BlockFacts, BlockKind, ModelFacts
from llmstack.plan.graph.attention import attention, latent_attention
from llmstack.plan.graph.context import GraphContext, InRam
from llmstack.plan.graph.feed_forward import experts_beside_dense, feed_forward, sum_of_experts
from llmstack.plan.graph.recurrent import delta_net, mamba2
from llmstack.plan.graph.sizes import row


class Before(enum.Enum):
    """Where the input of a device's first block comes from, when it is not a block on the host."""

    INPUT = "embeddings"
    DEVICE = "another GPU"
    HEAD = "tokens and the trunk's last rows, for a prediction block"


class GraphReplay:
    """Replays how llama.cpp builds the graph of a device's blocks, and writes the tensors that it needs.

    rotated: K, and V, are rotated before they are quantised. cache_in_ram: -nkvo.
    """

    def __init__(self, facts: ModelFacts, *, rotated: tuple[bool, bool], cache_in_ram: bool) -> None:
        self._graph = GraphContext(facts, rotated=rotated, cache_in_ram=cache_in_ram)

    def program(
        self,
        blocks: tuple[BlockFacts, ...],
        in_ram: tuple[InRam, ...],
        before: BlockFacts | Before,
        mixer: BlockKind = BlockKind.NONE,
        *,
        ends: bool,
    ) -> Program:
        """before: the last block on the host, or where else the first block's input comes from.

        mixer: what the last block on the host that keeps something keeps.
        ends: the last block is the model's, whose feed-forward part sees only the rows of the output.
        """
        graph = self._graph
        if before is Before.INPUT:
            residual = self._embeddings()
        elif before is Before.DEVICE:
            residual = graph.nodes.copy_in(graph.width)
        elif before is Before.HEAD:
            residual = self._both_inputs()
        else:
            residual = self._after_host(before, mixer, blocks)
        for number, block in enumerate(blocks):
            graph.following = blocks[number + 1 :]
            graph.in_ram = in_ram[number]
            # a prediction block leaves only the output's rows at its very end (graph_mtp)
            residual = self._block(block, residual, last=ends and not graph.following and before is not Before.HEAD)
        rows = [graph.output_rows()] if ends or not graph.cache_in_ram else []
        # Blocks that are left out would read the inputs to the end.
        graph.nodes.consume(residual, *(rows if ends else graph.shared_inputs()))
        return graph.nodes.program()

    def _embeddings(self) -> int:
        """build_inp_embd: the rows of tokens, and those of a batch that mixes tokens and embeddings.

        ggml_build_forward_select puts all three branches into the graph, and only one is computed. The mixed one writes
        with ggml_set_rows into a copy of the embeddings; its result is a view that nothing reads, so nothing frees it.
        """
        graph = self._graph
        nodes, width = graph.nodes, graph.width
        if graph.cache_in_ram and graph.arch.mamba2:
            # The first block's state is in RAM, so the split before it ends on the host, which mixes them too.
            return nodes.copy_in(width)
        mixed, rows, slots = nodes.copy_in(width), nodes.copy_in(width), nodes.copy_in(row(2))
        nodes.allocate(width, mixed)  # ggml_dup
        nodes.consume(rows, slots)
        if not graph.arch.embedding_scaled:
            return nodes.copy_in(width)
        return nodes.in_place(width, nodes.copy_in(width), nodes.copy_in(row(1)))  # inp_scale_rows

    def _both_inputs(self) -> int:
        """graph_mtp (src/models/qwen35.cpp): the trunk's rows and the tokens' embeddings, each normed, then eh_proj."""
        graph = self._graph
        nodes, width = graph.nodes, graph.width
        trunk, tokens = nodes.copy_in(width), nodes.copy_in(width)
        trunk = nodes.in_place(width, trunk)
        tokens = nodes.in_place(width, tokens)
        return nodes.allocate(width, nodes.allocate(row(2 * graph.facts.n_embd), tokens, trunk))

    def _after_host(self, before: BlockFacts, mixer: BlockKind, blocks: tuple[BlockFacts, ...]) -> int:
        """The end of the host's last block.

        What follows its last matrix needs no weights, so ggml_backend_sched_split_graph gives it to the GPU already
        (pass 2, "expand gpu up"): sums, and the weights of the experts.
        """
        graph = self._graph
        nodes, width, facts, arch = graph.nodes, graph.width, graph.facts, graph.arch
        wide, used = row(facts.n_expert_used * facts.n_embd), row(facts.n_expert_used)
        state_ahead = not graph.cache_in_ram and arch.mamba2
        if not before.experts or arch.dense_beside_experts:
            first = next((block for block in blocks if block.kind is not BlockKind.NONE or block.experts), None)
            if state_ahead and arch.early_state and first is not None and first.kind is BlockKind.RECURRENT:
                graph.read_state_ahead()
                # ggml_cont of z, a part of that block's projection, has no weights either
                if mixer is BlockKind.RECURRENT:
                    projection = 2 * (facts.ssm_inner + facts.ssm_groups * facts.ssm_state) + facts.ssm_rank
                    nodes.consume(nodes.allocate(row(facts.ssm_inner), nodes.copy_in(row(projection))))
                nodes.split()
            return nodes.in_place(width, nodes.copy_in(width), nodes.copy_in(width))
        if not before.shared_ff:
            result, weights = nodes.copy_in(wide), nodes.copy_in(used)
            total = sum_of_experts(graph, nodes.in_place(wide, result, weights))
            return nodes.in_place(width, total, nodes.copy_in(width))
        if state_ahead and blocks[0].kind is BlockKind.RECURRENT:
            # The state's gather stands between the experts' sum and the shared expert, whose weights are on the host.
            result, weights = nodes.copy_in(wide), nodes.copy_in(used)
            routed = sum_of_experts(graph, nodes.in_place(wide, result, weights))
            graph.read_state_ahead()
            nodes.split()
            both = nodes.in_place(width, routed, nodes.copy_in(width))
            return nodes.in_place(width, both, nodes.copy_in(width))
        shared = self._gated_shared()
        both = nodes.in_place(width, nodes.copy_in(width), shared)
        return nodes.in_place(width, both, nodes.copy_in(width))

    def _gated_shared(self) -> int:
        """The host's result of the shared expert, times its gate (one value per token)."""
        graph = self._graph
        nodes, width, single = graph.nodes, graph.width, row(1)
        if graph.arch.shared_gate is SharedGate.NONE:
            return nodes.copy_in(width)
        gate = nodes.copy_in(single)
        if graph.arch.shared_gate is SharedGate.SILU_RATIO:  # src/models/qwen2moe.cpp
            gate = nodes.in_place(single, nodes.allocate(single, gate), gate)
        else:
            gate = nodes.in_place(single, gate)
        return nodes.in_place(width, nodes.copy_in(width), gate)

    def _block(self, block: BlockFacts, residual: int, *, last: bool) -> int:
        """build_norm, the mixer, build_norm, the feed-forward part: the loop of every graph in src/models."""
        graph = self._graph
        nodes, width, arch = graph.nodes, graph.width, graph.arch
        if block.kind is BlockKind.RECURRENT and not arch.delta_net and graph.state_read is None:
            graph.read_state_ahead()
        normed = nodes.in_place(width, residual)
        if block.kind is BlockKind.RECURRENT:
            residual = (delta_net if arch.delta_net else mamba2)(graph, normed, residual)
        elif block.kind is not BlockKind.NONE:
            residual = (latent_attention if graph.facts.mla else attention)(graph, block, normed, residual)
        elif block.experts or block.ff:  # nemotron-h: the block is only its feed-forward part
            return feed_forward(graph, block, normed, residual)
        # After the last mixer ggml_get_rows leaves only the rows of the output: too few to count.
        if last or not (block.experts or block.ff):
            return residual
        if arch.dense_beside_experts and block.experts:
            return experts_beside_dense(graph, block, residual)
        return feed_forward(graph, block, nodes.in_place(width, residual), residual)
