"""llama.cpp's graph of a model's blocks, as the list of tensors that one GPU's part of it needs.

The order is that in which llama.cpp computes them (GGML_SCHED_DEBUG=2 prints it), build 11434. Tensors smaller than a
row per head are left out; weights are not part of the graph's memory.

| module         | what it replays                                                              |
| -------------- | ---------------------------------------------------------------------------- |
| `replay`       | a device's blocks in order, and where their input comes from                  |
| `attention`    | build_qkv, build_attn (src/llama-graph.cpp), src/models/deepseek2.cpp         |
| `recurrent`    | build_rs, src/models/delta-net-base.cpp, src/models/mamba-base.cpp            |
| `feed_forward` | build_ffn, build_moe_ffn (src/llama-graph.cpp); the host beside a whole GPU   |
| `context`      | what all of them share: inputs, masks, positions, where the host takes over   |
| `sizes`        | sizes of tensors in units, and the bytes of a unit                            |
"""

from __future__ import annotations

from llmstack.plan.graph.context import InRam
from llmstack.plan.graph.feed_forward import host_beside
from llmstack.plan.graph.replay import Before, GraphReplay
from llmstack.plan.graph.sizes import ContextShape, is_mask, table_bytes

__all__ = ["Before", "ContextShape", "GraphReplay", "InRam", "host_beside", "is_mask", "table_bytes"]
