"""Whether a conversation is long enough for a coding agent's first request, one answer and one turn. Data and one rule.

Claude Code whose prompt does not fit answers every message with "Prompt is too long", while the stack is in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.plan.goal import Workload


@dataclass(frozen=True, slots=True)
class FirstRequest:
    """tokens of a client's first request, its template included: system text, tools, messages."""

    client: str
    version: tuple[int, ...]
    tokens: int


# Measured with Qwen's vocabulary through llama-server: `llmstack claude`'s own variables, an empty folder, "ping".
# 2.1.332 names most tools only, and fetches the others when it needs them.
CLAUDE_CODE = (
    FirstRequest("Claude Code", (2, 1, 197), 18_700),
    FirstRequest("Claude Code", (2, 1, 332), 12_900),
)


def first_request(version: tuple[int, ...] | None = None) -> FirstRequest:
    """The measured one of the newest version that is no newer than this; None: the newest measured."""
    known = [one for one in CLAUDE_CODE if version is None or one.version <= version]
    return known[-1] if known else CLAUDE_CODE[0]


def needed(one: FirstRequest) -> int:
    """Tokens of context with which the client can work at all."""
    work = Workload()
    return one.tokens + work.turn_tokens + 2 * work.output_tokens


def too_small(n_ctx_slot: int, version: tuple[int, ...] | None = None) -> str:
    """A sentence where a conversation of n_ctx_slot tokens is too short for Claude Code, else empty."""
    one = first_request(version)
    if n_ctx_slot >= needed(one):
        return ""
    dotted = ".".join(map(str, one.version))
    return (
        f"{n_ctx_slot:,} tokens of context are too few for {one.client}: its first request takes about {one.tokens:,} "
        f"({dotted}), with one turn and its answers {needed(one):,}; it would answer every message with "
        f'"Prompt is too long"'
    )
