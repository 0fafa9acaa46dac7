"""What `tune` found for a model on this machine: flags with their evidence, which the next plan takes up as pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from llmstack.commands import command_line
from llmstack.detect.calibration import machine_of
from llmstack.detect.model_file import Identity, key_of
from llmstack.hardware import Hardware
from llmstack.llama_server.flags import pinnable_flag
from llmstack.paths import Home, write_private
from llmstack.plan import Goal, Plan


class Tuned(msgspec.Struct, frozen=True):
    """flags: pins by flag. gain: share by which the goal's time fell. trials: measured candidates. at: epoch s."""

    model: str
    engine: str
    machine: str
    flags: dict[str, str]
    gain: float
    goal: str
    trials: int
    at: float


def _key(identity: Sequence[Identity]) -> str:
    first = identity[0]
    return key_of(first.path, first.size_bytes, first.mtime_ns)


def read(home: Home) -> tuple[Tuned, ...]:
    try:
        return msgspec.json.decode(home.tuned.read_bytes(), type=tuple[Tuned, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def remember(home: Home, result: Tuned) -> None:
    """Replaces an earlier result for the same model, engine and machine."""
    same = (result.model, result.engine, result.machine)
    others = [old for old in read(home) if (old.model, old.engine, old.machine) != same]
    write_private(home.tuned, msgspec.json.encode([*others, result]))


def forget(home: Home, identity: Sequence[Identity]) -> bool:
    """True when there was a result for this model."""
    others = [old for old in read(home) if old.model != _key(identity)]
    changed = len(others) != len(read(home))
    write_private(home.tuned, msgspec.json.encode(others))
    return changed


def make(
    identity: Sequence[Identity],
    engine: str,
    hardware: Hardware,
    flags: dict[str, str],
    *,
    gain: float,
    goal: str,
    trials: int,
    at: float,
) -> Tuned:
    return Tuned(_key(identity), engine, machine_of(hardware), flags, gain, goal, trials, at)


def with_tuned(home: Home, goal: Goal, identity: Sequence[Identity], hardware: Hardware, engine: str) -> Goal:
    """The goal with what was tuned pinned, below what the user pins: a flag of theirs is never overruled."""
    key = (_key(identity), engine, machine_of(hardware))
    result = next((old for old in read(home) if (old.model, old.engine, old.machine) == key), None)
    if result is None:
        return goal
    own = {pin.name for name in goal.pins if (pin := pinnable_flag(name)) is not None}
    own |= {"-ctk", "-ctv"} if goal.kv_type is not None else set()
    return replace(goal, pins={**{f: v for f, v in result.flags.items() if f not in own}, **goal.pins})


def explained(home: Home, plan: Plan, identity: Sequence[Identity], engine: str) -> Plan:
    """The plan whose tuned flags say so, instead of `pinned by you`."""
    key = (_key(identity), engine)
    result = next((old for old in read(home) if (old.model, old.engine) == key), None)
    if result is None:
        return plan
    reason = (
        f"measured by `{command_line('tune')}` as best here: {result.gain:.0%} faster, {result.trials} candidates tried"
    )
    decisions = tuple(
        replace(decision, reason=reason, pinned=False)
        if decision.pinned and result.flags.get(decision.flag) == decision.value
        else decision
        for decision in plan.decisions
    )
    return replace(plan, decisions=decisions)
