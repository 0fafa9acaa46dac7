"""How long a model's contexts were in training: a slot gets no more, unless the user asks for YaRN.

llama-server caps each slot at that length (server_context_impl::n_ctx_slot, tools/server/server-context.cpp), whatever
-c says. With YaRN, llama_init_from_model (src/llama-context.cpp) puts yarn_orig_ctx / rope_freq_scale in its place, as
long as the scale is another one than the file's own. Measured on build 11434: a model of 8192 tokens answers /props
with 8192 for -c 32768, and with 32768 once --rope-scaling yarn --rope-scale 4 are set.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.llama_server.flags import pinnable_flag
from llmstack.llama_server.values import YARN
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import DEFAULT_CONTEXT, Goal

SCALING, SCALE, ORIGINAL = "--rope-scaling", "--rope-scale", "--yarn-orig-ctx"  # llama-server's flags for it
STEP = 0.25  # scales are whole quarters


@dataclass(frozen=True, slots=True)
class Stretch:
    """YaRN's scale, and the tokens that the model knew before."""

    scale: float
    original: int

    @property
    def reach(self) -> int:
        """Tokens of a slot, as llama.cpp computes it in single precision."""
        return int(_single(self.original / _single(1 / self.scale)))


def stretch_of(facts: ModelFacts, a: Assignment) -> Stretch | None:
    """What makes this context possible; None where nothing is asked for, or nothing is needed."""
    if a.rope_scaling != YARN or not facts.n_ctx_train or a.ctx_slot <= facts.n_ctx_train:
        return None
    original = facts.n_ctx_original or facts.n_ctx_train
    scale = max(math.ceil(a.ctx_slot / original / STEP) * STEP, 1 + STEP)
    while scale == facts.rope_factor or Stretch(scale, original).reach < a.ctx_slot:
        scale += STEP  # with the file's own scale, llama.cpp leaves the training length as it is
    return Stretch(scale, original)


def slot_tokens(facts: ModelFacts, a: Assignment) -> int:
    """Tokens of one conversation, as the server will have it."""
    if not facts.n_ctx_train or stretch_of(facts, a) is not None:
        return a.ctx_slot
    return min(a.ctx_slot, facts.n_ctx_train)


def within_training(pinned: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any]:
    """The same, with no more context than the server would give. Raises BadInput for a scaling that can't be."""
    if pinned.get("rope_scaling") == YARN:
        _check_scaling(facts)
        return dict(pinned)
    most = facts.n_ctx_train * pinned.get("parallel", 1)
    if not most or pinned.get("ctx", 0) <= most:
        return dict(pinned)
    return {**pinned, "ctx": most}


def default_context(pinned: Mapping[str, Any], facts: ModelFacts) -> int:
    """Tokens of one conversation where nobody names a number."""
    if pinned.get("rope_scaling") == YARN:
        return DEFAULT_CONTEXT
    return min(DEFAULT_CONTEXT, facts.n_ctx_train or DEFAULT_CONTEXT)


def cut_from(goal: Goal, facts: ModelFacts, a: Assignment) -> int:
    """Tokens of one conversation that were asked for, where the model's training allows fewer; else 0."""
    wish = goal.ctx or 0
    for name, text in goal.pins.items():
        flag = pinnable_flag(name)
        if not wish and flag is not None and flag.field == "ctx":
            wish = int(text) // (1 if a.kv_unified else a.parallel)
    return wish if facts.n_ctx_train and wish > facts.n_ctx_train and a.rope_scaling != YARN else 0


def cut_sentence(goal: Goal, facts: ModelFacts, a: Assignment) -> str:
    """The sentence about such a cut; empty without one."""
    wish = cut_from(goal, facts, a)
    if not wish:
        return ""
    return (
        f"asked for {wish} tokens; the model was trained on {facts.n_ctx_train}, and llama-server gives a slot no "
        f"more: it gets {slot_tokens(facts, a)}; {_way_out(facts)}"
    )


def _way_out(facts: ModelFacts) -> str:
    if _scaled_otherwise(facts):
        return f"the file scales its positions already ({facts.rope_scaled}), so YaRN can't stretch it further"
    return "--set rope-scaling=yarn stretches it, and short prompts are then answered a little worse"


def _check_scaling(facts: ModelFacts) -> None:
    if _scaled_otherwise(facts):
        raise BadInput(
            f"--set rope-scaling=yarn: {facts.name} scales its positions already ({facts.rope_scaled})",
            why="scaled twice, it would answer nonsense",
            next=command_line("plan", "MODEL", "--ctx", facts.n_ctx_train or "TOKENS"),
        )


def _scaled_otherwise(facts: ModelFacts) -> bool:
    return facts.rope_scaled not in ("", YARN)


def _single(value: float) -> float:
    """A float as 32 bits keep it."""
    single: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return single
