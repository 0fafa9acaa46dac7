"""Guessing tokens ahead: whether a second file can, how many tokens are tried, and how many are taken to hold."""

from __future__ import annotations

from llmstack.gguf.header import VOCAB_APART
from llmstack.hardware import Hardware
from llmstack.plan.companions import MTP
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import Goal
from llmstack.plan.rates import RATES

MTP_LENGTHS = (1, 2, 3)  # tokens that the file's own prediction (MTP) block drafts
DRAFT_LENGTHS = (1, 2, 3, 4, 6)  # tokens that a draft model drafts


def draft_lengths(draft: ModelFacts | None) -> tuple[int, ...]:
    """How many tokens a draft model may guess in a row; some are made for so many and no more, and a prediction head
    guesses as far as one in the model's file: the share that holds falls with each.
    """
    companion = draft.companion if draft is not None else None
    if companion is not None and companion.spec_type == MTP:
        return MTP_LENGTHS
    most = companion.most if companion is not None else 0
    return tuple(count for count in DRAFT_LENGTHS if not most or count <= most)


def acceptance(goal: Goal) -> dict[str, float]:
    """The shares of guesses that hold, by field of Rates, where they are not the usual ones.

    A prediction head in a file of its own was trained as one in the model's file.
    """
    companion = goal.draft.companion if goal.draft is not None else None
    head = companion is not None and companion.spec_type == MTP
    model = goal.accepts_model if goal.accepts_model is not None or not head else RATES.accept
    seen = {"accept": goal.accepts_block, "accept_drafter": model}
    return {name: share for name, share in seen.items() if share is not None}


def why_no_draft_model(facts: ModelFacts, hardware: Hardware, goal: Goal) -> str:
    """Why the goal's draft model cannot be used at all; empty when it can, or there is none."""
    if goal.draft is None:
        return ""
    if len(hardware.devices) > 1:
        return "its place among several GPUs is not planned"
    if goal.projector is not None:
        return "llama-server cannot read pictures with one (server-context.cpp: batch.has_embd + spec)"
    companion = goal.draft.companion
    if companion is not None:
        return companion.why_not(facts.n_embd, facts.n_layer)
    if facts.recurrent or facts.has_window:
        return "rolling back the state of this model for wrong guesses is not planned"
    apart = abs(facts.n_vocab - goal.draft.n_vocab)
    if apart > VOCAB_APART:
        return f"its vocabulary differs by {apart} tokens, llama.cpp takes at most {VOCAB_APART}"
    return ""
