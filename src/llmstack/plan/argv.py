"""A plan as llama-server's argument list: explicit, so that no default of another build changes it."""

from __future__ import annotations

from typing import Any

from llmstack.llama_server.flags import FLAGS, Flag
from llmstack.plan.assignment import NO_DEVICE, Assignment, draft_assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import Goal
from llmstack.plan.training_length import ORIGINAL, SCALE, SCALING, stretch_of

NGRAM_MATCH, NGRAM_MIN = 24, 48


def flags(facts: ModelFacts, a: Assignment, goal: Goal) -> tuple[str, ...]:
    """The arguments in the order of the table of flags, then the goal's own extra ones."""
    derived = _derived(facts, a, goal)
    words: list[str] = []
    for flag in FLAGS:
        words += flag.words(derived[flag.name] if flag.name in derived else _value(flag, a, goal))
    return (*words, *goal.extra)


def _value(flag: Flag, a: Assignment, goal: Goal) -> Any:
    if flag.field:
        return getattr(a, flag.field)
    return getattr(goal, flag.goal_field) if flag.goal_field else None


def _derived(facts: ModelFacts, a: Assignment, goal: Goal) -> dict[str, Any]:
    """The values that follow from others; None where the flag is left out."""
    derived: dict[str, Any] = {"-m": facts.path, "-fa": "on", "--jinja": True, "--fit": "off"}
    if a.has_gpu and not a.ngl:
        derived["-dev"] = NO_DEVICE  # -ngl 0 alone still opens the device
    shares = tuple(share for share in a.split if share)
    derived["-ts"] = shares if len(shares) > 1 and a.ngl else None  # in the order of -dev, which leaves the others out
    if goal.reasoning == "off" and facts.template_ignores_switch:
        derived["--reasoning-budget"] = "0"
    drafting = _drafting(a, goal)
    return derived | _stretching(facts, a) | drafting | _repeating(a, drafting.get("--spec-type", ""))


def _stretching(facts: ModelFacts, a: Assignment) -> dict[str, Any]:
    stretch = stretch_of(facts, a)
    if stretch is None:
        return {SCALING: None}
    return {SCALE: f"{stretch.scale:g}", ORIGINAL: str(stretch.original)}


def _repeating(a: Assignment, others: str) -> dict[str, Any]:
    """ngram-mod with the lengths of llama.cpp's own --spec-default (common/arg.cpp); what needs no model goes first."""
    if not a.ngram_max:
        return {}
    lengths = {"--spec-ngram-mod-n-min": str(min(NGRAM_MIN, a.ngram_max)), "--spec-ngram-mod-n-match": str(NGRAM_MATCH)}
    return {"--spec-type": ",".join(filter(None, ("ngram-mod", others))), **lengths}


def _drafting(a: Assignment, goal: Goal) -> dict[str, Any]:
    if a.block_guesses:
        return {"--spec-type": "draft-mtp", "-md": None}
    if not a.model_guesses or goal.draft is None:
        return {"--spec-draft-n-max": None, "-md": None}
    second = draft_assignment(a, layers=goal.draft.n_layer_all + 1)
    return {
        "--spec-type": goal.draft.companion.spec_type if goal.draft.companion else "draft-simple",
        "-md": goal.draft.path,
        "-ngld": str(second.ngl),
        "-devd": NO_DEVICE if a.has_gpu and not a.ngl else a.devices,
        "-ctkd": second.type_k,
        "-ctvd": second.type_v,
        "--spec-draft-p-min": "0",
    }
