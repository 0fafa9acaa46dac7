"""A finished plan, as data: what `up` applies and what `plan` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmstack.errors import NotSo
from llmstack.hardware import Hardware
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import Goal
from llmstack.plan.kv_quality import KvHarm
from llmstack.plan.memory import MemoryPlan, MemoryUse
from llmstack.plan.ranges import Spread, bounds, spread
from llmstack.plan.speed import Predicted
from llmstack.plan.training_length import slot_tokens


@dataclass(frozen=True, slots=True)
class Decision:
    """flag and value as on the command line; cost: what the choice takes or gives, in one phrase."""

    flag: str
    value: str
    reason: str
    cost: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    why: str
    argv: tuple[str, ...]
    predicted: Predicted


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """The best plan with this type of cache, what the cache takes on devices and in RAM, what is known of its harm."""

    kind: str
    predicted: Predicted
    context_mib: float
    harm: KvHarm | None


@dataclass(frozen=True, slots=True)
class Budget:
    """MiB that may be used: devices in order, then RAM."""

    devices: tuple[int, ...]
    ram: int


@dataclass(frozen=True, slots=True)
class Plan:
    """argv: llama-server's arguments without what running under the stack adds (address, key file, states folder).

    warnings: what is otherwise than it was asked for, a sentence each; they are among the notes too.
    """

    facts: ModelFacts
    hardware: Hardware
    goal: Goal
    assignment: Assignment
    memory: MemoryPlan
    budget: Budget
    predicted: Predicted
    decisions: tuple[Decision, ...]
    argv: tuple[str, ...]
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    caches: tuple[CacheChoice, ...] = ()
    feasible: bool = field(default=True, init=False)

    @property
    def n_ctx_slot(self) -> int:
        """Tokens of one conversation, as the server will have it."""
        return slot_tokens(self.facts, self.assignment)


class Infeasible(NotSo):
    """No assignment keeps the budgets. `nearest` says what would have to change."""

    def __init__(self, reason: str, nearest: str, *, model: dict[str, Any] | None = None) -> None:
        super().__init__(reason, next=nearest)
        self.reason = reason
        self.nearest = nearest
        self.model = model or {}

    def to_json(self) -> dict[str, Any]:
        return {"feasible": False, "reason": self.reason, "nearest": self.nearest, "model": self.model}


def model_json(facts: ModelFacts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "path": facts.path,
        "arch": facts.arch,
        "size_bytes": facts.size_bytes,
        "n_params": facts.n_params,
        "n_layer": facts.n_layer,
        "n_ctx_train": facts.n_ctx_train,
        "n_embd": facts.n_embd,
        "n_vocab": facts.n_vocab,
        "n_expert": facts.n_expert,
        "n_expert_used": facts.n_expert_used,
        "recurrent": facts.recurrent,
        "sliding_window": facts.window if facts.has_window else 0,
        "mtp_layers": facts.n_draft,
        "known_architecture": facts.architecture.checked,
    }


def _use_json(name: str, use: MemoryUse, budget: int) -> dict[str, Any]:
    return {
        "name": name,
        "weights_mib": round(use.weights),
        "context_mib": round(use.context),
        "compute_mib": round(use.compute),
        "other_mib": round(use.other),
        "total_mib": round(use.total),
        "budget_mib": budget,
    }


def predicted_json(predicted: Predicted) -> dict[str, Any]:
    return {
        "prefill_tps": round(predicted.prefill_tps, 1),
        "decode_tps": round(predicted.decode_tps, 1),
        "ttft_cold_s": round(predicted.ttft_cold_s, 2),
        "ttft_warm_s": round(predicted.ttft_warm_s, 2),
        "ttft_restart_s": round(predicted.ttft_restart_s, 2),
        "prompt_tokens": predicted.prompt_tokens,
        "session_s": round(predicted.session_s, 1),
    }


def stated_spread(plan: Plan) -> Spread:
    return spread(plan.facts, plan.hardware, plan.assignment)


def stated_json(plan: Plan) -> dict[str, Any]:
    """The plan's speeds, the range of each, what they rest on, and their stated error as a share."""
    from llmstack.plan.calibrate import stated_error  # the fit of measured rates: text prints no error

    factors = stated_spread(plan)
    return predicted_json(plan.predicted) | {
        "prefill_tps_range": [round(tps, 1) for tps in bounds(plan.predicted.prefill_tps, factors.prefill)],
        "decode_tps_range": [round(tps, 1) for tps in bounds(plan.predicted.decode_tps, factors.decode)],
        "basis": "assumed" if plan.hardware.measured is None else "measured",
        "error": round(stated_error(plan.hardware), 3),
    }


def _vision_json(plan: Plan) -> dict[str, Any] | None:
    """The image encoder that is taken; None where images are not read."""
    projector = plan.goal.projector
    if projector is None:
        return None
    return {
        "projector": projector.path,
        "weights_mib": round(projector.weights / (1 << 20)),
        "compute_mib": round(projector.compute / (1 << 20)),
        "image_tokens": projector.tokens,
        "on": "device" if plan.assignment.ngl and plan.hardware.devices else "host",
    }


def to_json(plan: Plan) -> dict[str, Any]:
    """The contract's `plan --json`."""
    names = [device.name for device in plan.hardware.devices]
    return {
        "feasible": True,
        "model": model_json(plan.facts),
        "draft_model": plan.goal.draft.path if plan.goal.draft and plan.assignment.model_guesses else None,
        "hardware": plan.hardware.to_json(),
        "decisions": [
            {"flag": d.flag, "value": d.value, "reason": d.reason, "cost": d.cost, "pinned": d.pinned}
            for d in plan.decisions
        ],
        "memory": {
            "devices": [
                _use_json(name, use, budget)
                for name, use, budget in zip(names, plan.memory.devices, plan.budget.devices, strict=True)
            ],
            "host": {
                **_use_json("RAM", plan.memory.host, plan.budget.ram),
                "prompt_cache_mib": round(plan.memory.cache_ram),
                "checkpoints_mib": round(plan.memory.checkpoints),
            },
        },
        "predicted": stated_json(plan),
        "alternatives": [
            {"why": other.why, "argv": list(other.argv), "predicted": predicted_json(other.predicted)}
            for other in plan.alternatives
        ],
        "cache_types": [
            {
                "type": cache.kind,
                "context_mib": round(cache.context_mib),
                "harm": {"kl": list(cache.harm.kl), "same_top1": cache.harm.same, "source": cache.harm.source}
                if cache.harm is not None
                else None,
                "predicted": predicted_json(cache.predicted),
            }
            for cache in plan.caches
        ],
        "n_ctx_slot": plan.n_ctx_slot,
        "vision": _vision_json(plan),
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
        "argv": list(plan.argv),
    }
