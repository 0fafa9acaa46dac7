"""With the image encoder or without it: what it costs, and the words for it.

An encoder is a few hundred MiB that most turns never use. It is taken where that room is free. Where layers, the
context or a draft model would have to make way for it, it is left out, and the plan says what it would cost.
"""

from __future__ import annotations

from dataclasses import replace

from llmstack.commands import command_line
from llmstack.plan.goal import DEFAULT_CONTEXT
from llmstack.plan.memory import MIB
from llmstack.plan.projector import ProjectorFacts
from llmstack.plan.result import Decision, Infeasible, Plan
from llmstack.sizes import mib_text

SLOWER = 1.10  # the same work may take this much longer, so that images can be read


def with_images(plan: Plan, *, pinned: bool) -> Plan:
    """The plan with the decision for its image encoder behind the others."""
    projector = plan.goal.projector
    assert projector is not None
    place = "VRAM" if plan.assignment.ngl and plan.hardware.devices else "RAM"
    mib = projector.device_bytes(scratch=False) / MIB
    tokens = f", {projector.tokens} tokens of context for the largest" if projector.tokens else ""
    file = projector.path.rpartition("/")[2]
    row = Decision("-mm", file, f"reads images{tokens}", f"{mib_text(mib)} of {place}", pinned=pinned)
    return replace(plan, decisions=(*plan.decisions, row), notes=(*plan.notes, *_notes(projector)))


def _notes(projector: ProjectorFacts) -> tuple[str, ...]:
    if projector.known:
        return ()
    kind = projector.kind or "an image encoder whose file is not here"
    return (f"{kind}: its buffers are an upper estimate",)


def without_images(plan: Plan, why: str, *, pinned: bool = False) -> Plan:
    return replace(plan, decisions=(*plan.decisions, Decision("--no-mmproj", "", why, pinned=pinned)))


def needs_comparison(plan: Plan) -> bool:
    """Whether a plan with an image encoder gave anything up that a plan without it might keep."""
    a = plan.assignment
    whole = not plan.hardware.devices or a.ngl > plan.facts.n_layer_all
    moved = a.ncmoe or a.ncffn or a.nkvo
    shorter = a.ctx < _asked_context(plan)
    return not whole or bool(moved) or shorter or plan.goal.draft is not None


def _asked_context(plan: Plan) -> int:
    train = plan.facts.n_ctx_train or DEFAULT_CONTEXT
    return (plan.goal.ctx or min(DEFAULT_CONTEXT, train)) * plan.assignment.parallel


def why_left_out(projector: ProjectorFacts, images: Plan | Infeasible, alone: Plan) -> str:
    """Why the plan without images is the better one; empty when it is not. images: the plan with them."""
    mib = mib_text(projector.device_bytes(scratch=False) / MIB)
    how = f"{command_line('up', 'MODEL', '--vision')} takes it all the same"
    if isinstance(images, Infeasible):
        return f"images are not read: there is no room for the {mib} of the image encoder beside the model"
    if images.assignment.ctx < alone.assignment.ctx:
        return (
            f"images are not read: beside the {mib} of the image encoder the context would be cut from "
            f"{alone.assignment.ctx} to {images.assignment.ctx} tokens; {how}"
        )
    part = images.predicted.session_s / alone.predicted.session_s
    if part > SLOWER:
        return (
            f"images are not read: with the {mib} of the image encoder the same work takes {part - 1:.0%} longer; {how}"
        )
    return ""
