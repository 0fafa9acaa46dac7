"""Forks of llama.cpp, told by flags that only they have: their build numbers are not llama.cpp's."""

from __future__ import annotations

from llmstack.engine.flags import Flags

# Two of a fork's flags tell it, so that a flag which llama.cpp takes over one day does not make a fork of it.
# ik_llama.cpp: gpt_params_print_usage in its common/common.cpp; none of these is in build 11434 or 11549.
MARKS: dict[str, tuple[str, ...]] = {
    "ik_llama.cpp": (
        "--mla-use", "--attention-max-batch", "--smart-expert-reduction", "--run-time-repack", "--no-fused-moe",
        "--fused-moe", "--merge-qkv", "--graph-reuse",
    ),
}  # fmt: skip


def fork_of(flags: Flags | None) -> str:
    """The fork's name; empty for llama.cpp itself, and for what cannot be told from it."""
    if flags is None:
        return ""
    for name, marks in MARKS.items():
        if sum(mark in flags for mark in marks) >= 2:
            return name
    return ""
