"""Pinned flags: what `--set FLAG=VALUE` may fix, checked before the search starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmstack.errors import BadInput
from llmstack.llama_server.flags import FLAGS, REMOVED, pinnable_flag
from llmstack.llama_server.values import KV_TYPES
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import Goal

MOST_SLOTS = 256  # LLAMA_MAX_SEQ (src/llama-cparams.h)
MOST_TOKENS = 1 << 26


def read_pins(goal: Goal, facts: ModelFacts) -> tuple[Goal, dict[str, Any]]:
    """The goal with its own pins applied, and the pinned fields of Assignment.

    Raises BadInput for a flag that cannot be pinned, or a value that it cannot take.
    """
    of_assignment: dict[str, Any] = {}
    of_goal: dict[str, Any] = {}
    for name, text in goal.pins.items():
        flag = pinnable_flag(name)
        if flag is None:
            raise _not_pinnable(name)
        try:
            value = flag.kind.read(text)
        except ValueError:
            raise BadInput(f"--set {name}={text}: {flag.name} takes {flag.kind.expects}") from None
        if flag.goal_field:
            of_goal[flag.goal_field] = value
        else:
            of_assignment[flag.field] = value
    if goal.parallel is not None:
        of_assignment["parallel"] = goal.parallel
    if goal.ctx is not None:  # of one conversation; -c is shared between the slots
        of_assignment["ctx"] = goal.ctx * of_assignment.get("parallel", 1)
    if goal.kv_type is not None:
        if goal.kv_type not in KV_TYPES:
            raise BadInput(f"--kv-type {goal.kv_type}: it is one of {', '.join(KV_TYPES)}")
        of_assignment.setdefault("type_k", goal.kv_type)
        of_assignment.setdefault("type_v", goal.kv_type)
    _check(of_assignment, facts, goal.draft)
    return replace(goal, **of_goal), _clamped(of_assignment, facts)


def pinned_flags(goal: Goal) -> frozenset[str]:
    """The names of the flags that this goal fixes, by `--set` or by an option of its own."""
    names = {flag.name for name in goal.pins if (flag := pinnable_flag(name)) is not None}
    names |= {"-c"} if goal.ctx is not None else set()
    names |= {"-np"} if goal.parallel is not None else set()
    names |= {"-ctk", "-ctv"} if goal.kv_type is not None else set()
    return frozenset(names)


def _check(pinned: Mapping[str, Any], facts: ModelFacts, draft: ModelFacts | None) -> None:
    """Raises BadInput for a value that this model, or llama.cpp, cannot take."""
    for field in ("ctx", "parallel", "batch", "ubatch"):
        if field in pinned and not 0 < pinned[field] <= MOST_TOKENS:
            raise BadInput(f"{pinned[field]} is no usable value for {field}")
    if pinned.get("ncmoe") and not facts.moe:
        raise BadInput("-ncmoe is pinned, but this model has no experts", next="pin -ncffn or -ngl instead")
    if pinned.get("moe_cache_mib") and not facts.moe:
        raise BadInput(
            "--moe-cache-mib is pinned, but this model has no experts",
            why="llama.cpp does not start a dense model with it",
            next="leave the pin out",
        )
    if pinned.get("drafter") and draft is None:
        raise BadInput("-md is pinned, but no smaller model of the same vocabulary is known for this one")
    if pinned.get("draft_max") and not facts.n_draft and (draft is None or pinned.get("drafter") is False):
        raise BadInput("--spec-draft-n-max is pinned, but this file has no prediction (MTP) blocks")
    if pinned.get("ngram_max") and (facts.recurrent or facts.has_window):
        raise BadInput(
            "--spec-ngram-mod-n-max is pinned, but this model keeps a recurrent state or a sliding window",
            why="rolling it back for wrong guesses is not planned",
            next="leave the pin out",
        )
    if pinned.get("swa_full") and not facts.has_window:
        raise BadInput("--swa-full is pinned, but this model has no sliding window")
    if pinned.get("parallel", 1) > MOST_SLOTS:
        raise BadInput(f"-np: llama.cpp has at most {MOST_SLOTS} slots")
    width = min((b.head_dim for b in facts.blocks if b.k_width), default=32)
    for field in ("type_k", "type_v"):
        kind = pinned.get(field, "f16")
        if kind not in ("f16", "f32", "bf16") and width % 32:
            raise BadInput(f"{kind} needs heads of a multiple of 32 values; this model's have {width}")


def _clamped(pinned: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any]:
    """The same with counts of layers and blocks that this model has; llama.cpp takes larger ones for all."""
    most = {"ngl": facts.n_layer_all + 1, "ncmoe": facts.n_layer_all, "ncffn": facts.n_layer_all}
    return {field: min(value, most[field]) if field in most else value for field, value in pinned.items()}


def _not_pinnable(name: str) -> BadInput:
    bare = name.lstrip("-")
    if f"--{bare}" in REMOVED:
        return BadInput(f"llama-server no longer has --{bare}", next=f"use {REMOVED[f'--{bare}']}")
    names = ", ".join(sorted(flag.name for flag in FLAGS if flag.pinnable))
    return BadInput(f"{name} cannot be pinned: its memory or speed is not planned", why=f"these can: {names}")
