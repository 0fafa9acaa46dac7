"""Pinned flags: what `--set FLAG=VALUE` may fix, checked before the search starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmstack.errors import BadInput
from llmstack.plan.assignment import KV_TYPES, Assignment
from llmstack.plan.facts import Facts
from llmstack.plan.goal import Goal

LOAD_MODES = ("none", "mmap", "mlock", "mmap+mlock", "dio")
_REMOVED = {
    "mlock": "-lm mlock",
    "no-mmap": "-lm none",
    "draft": "--spec-draft-n-max",
    "draft-max": "--spec-draft-n-max",
}


def _count(text: str) -> int:
    if text == "all":
        return 10_000
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def _yes(text: str) -> bool:
    if text.lower() in ("", "1", "on", "true", "yes"):
        return True
    if text.lower() in ("0", "off", "false", "no"):
        return False
    raise ValueError


def _second(text: str) -> bool:
    """Whether there is a second model; which one is the goal's."""
    return True if text.endswith(".gguf") else _yes(text)


def _kv(text: str) -> str:
    if text not in KV_TYPES:
        raise ValueError
    return text


def _mode(text: str) -> str:
    if text not in LOAD_MODES:
        raise ValueError
    return text


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(float(part) for part in text.replace("/", ",").split(","))
    if not shares or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError
    return shares


@dataclass(frozen=True, slots=True)
class Pin:
    """flag: the short name that argv uses; field: of Assignment, or of Goal for `goal:` ones."""

    flag: str
    field: str
    read: Callable[[str], Any]
    expects: str


_PINS: dict[tuple[str, ...], Pin] = {
    ("c", "ctx-size"): Pin("-c", "ctx", _positive, "a number of tokens"),
    ("np", "parallel"): Pin("-np", "parallel", _positive, "a number of slots"),
    ("kvu", "kv-unified"): Pin("-kvu", "kv_unified", _yes, "on or off"),
    ("ngl", "gpu-layers", "n-gpu-layers"): Pin("-ngl", "ngl", _count, "a number of layers, or all"),
    ("ncmoe", "n-cpu-moe"): Pin("-ncmoe", "ncmoe", _count, "a number of blocks"),
    ("ncffn", "n-cpu-ffn"): Pin("-ncffn", "ncffn", _count, "a number of blocks"),
    ("nkvo", "no-kv-offload"): Pin("-nkvo", "nkvo", _yes, "on or off"),
    ("ctk", "cache-type-k"): Pin("-ctk", "type_k", _kv, "one of " + ", ".join(KV_TYPES)),
    ("ctv", "cache-type-v"): Pin("-ctv", "type_v", _kv, "one of " + ", ".join(KV_TYPES)),
    ("b", "batch-size"): Pin("-b", "batch", _positive, "a number of tokens"),
    ("ub", "ubatch-size"): Pin("-ub", "ubatch", _positive, "a number of tokens"),
    ("lm", "load-mode"): Pin("-lm", "load_mode", _mode, "one of " + ", ".join(LOAD_MODES)),
    ("cram", "cache-ram"): Pin("-cram", "cache_ram_mib", _count, "MiB"),
    ("ctxcp", "ctx-checkpoints", "swa-checkpoints"): Pin("-ctxcp", "checkpoints", _count, "a number"),
    ("swa-full",): Pin("--swa-full", "swa_full", _yes, "on or off"),
    ("spec-draft-n-max",): Pin("--spec-draft-n-max", "draft_max", _count, "tokens to draft, 0 for none"),
    ("md", "model-draft", "spec-draft-model"): Pin("-md", "drafter", _second, "on, off or a GGUF file"),
    ("ts", "tensor-split"): Pin("-ts", "split", _shares, "shares, such as 3,1"),
    ("t", "threads"): Pin("-t", "threads", _positive, "a number of threads"),
    ("n", "predict", "n-predict"): Pin("-n", "goal:n_predict", _positive, "a number of tokens"),
    ("rea", "reasoning"): Pin("-rea", "goal:reasoning", str, "on, off or auto"),
}
_BY_NAME = {name: pin for names, pin in _PINS.items() for name in names}


def find_pin(name: str) -> Pin | None:
    return _BY_NAME.get(name.lstrip("-"))


def read_pins(goal: Goal, facts: Facts) -> tuple[Goal, dict[str, Any]]:
    """The goal with its own pins applied, and the pinned fields of Assignment.

    Raises BadInput for a flag that cannot be pinned, or a value that it cannot take.
    """
    fixed: dict[str, Any] = {}
    reasoning = goal.reasoning
    n_predict = goal.n_predict
    for name, text in goal.pins.items():
        pin = find_pin(name)
        if pin is None:
            raise _unknown(name)
        try:
            value = pin.read(text)
        except ValueError:
            raise BadInput(f"--set {name}={text}: {pin.flag} takes {pin.expects}") from None
        if pin.field == "goal:n_predict":
            n_predict = value
        elif pin.field == "goal:reasoning":
            if value not in ("on", "off", "auto"):
                raise BadInput(f"--set {name}={text}: {pin.flag} takes {pin.expects}")
            reasoning = value
        else:
            fixed[pin.field] = value
    if goal.parallel is not None:
        fixed["parallel"] = goal.parallel
    if goal.ctx is not None:  # of one conversation; -c is shared between the slots
        fixed["ctx"] = goal.ctx * fixed.get("parallel", 1)
    if goal.kv_type is not None:
        if goal.kv_type not in KV_TYPES:
            raise BadInput(f"--kv-type {goal.kv_type}: it is one of {', '.join(KV_TYPES)}")
        fixed.setdefault("type_k", goal.kv_type)
        fixed.setdefault("type_v", goal.kv_type)
    _check(fixed, facts, goal.draft)
    return replace(goal, n_predict=n_predict, reasoning=reasoning), fixed


def _check(fixed: Mapping[str, Any], facts: Facts, draft: Facts | None) -> None:
    top = facts.n_layer_all + 1
    for field in ("ctx", "parallel", "batch", "ubatch"):
        if field in fixed and not 0 < fixed[field] <= 1 << 26:
            raise BadInput(f"{fixed[field]} is no usable value for {field}")
    if fixed.get("ncmoe") and not facts.moe:
        raise BadInput("-ncmoe is pinned, but this model has no experts", next="pin -ncffn or -ngl instead")
    if fixed.get("drafter") and draft is None:
        raise BadInput("-md is pinned, but no smaller model of the same vocabulary is known for this one")
    if fixed.get("draft_max") and not facts.n_draft and (draft is None or fixed.get("drafter") is False):
        raise BadInput("--spec-draft-n-max is pinned, but this file has no prediction (MTP) blocks")
    if fixed.get("swa_full") and not facts.has_window:
        raise BadInput("--swa-full is pinned, but this model has no sliding window")
    if fixed.get("parallel", 1) > 256:
        raise BadInput("-np: llama.cpp has at most 256 slots")
    width = min((b.head_dim for b in facts.blocks if b.k_width), default=32)
    for field in ("type_k", "type_v"):
        kind = fixed.get(field, "f16")
        if kind not in ("f16", "f32", "bf16") and width % 32:
            raise BadInput(f"{kind} needs heads of a multiple of 32 values; this model's have {width}")
    if "ngl" in fixed:
        fixed["ngl"] = min(fixed["ngl"], top)  # type: ignore[index]
    for field in ("ncmoe", "ncffn"):
        if field in fixed:
            fixed[field] = min(fixed[field], facts.n_layer_all)  # type: ignore[index]


def apply(a: Assignment, fixed: Mapping[str, Any]) -> Assignment:
    return replace(a, **fixed) if fixed else a


def _unknown(name: str) -> BadInput:
    bare = name.lstrip("-")
    if bare in _REMOVED:
        return BadInput(f"llama-server no longer has --{bare}", next=f"use {_REMOVED[bare]}")
    known = ", ".join(sorted(pin.flag for pin in _PINS.values()))
    return BadInput(f"{name} cannot be pinned: its memory or speed is not planned", why=f"these can: {known}")
