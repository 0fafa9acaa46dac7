"""Prompts of a coding agent's shape, made by us: what the health check and the bench send.

Rules, tool descriptions and source files with few repeated lines, so that no cache and no n-gram trick flatters the
measurement. Pure and deterministic: the same seed gives the same text.
"""

from __future__ import annotations

import random

_VERBS = ("read", "write", "parse", "render", "split", "merge", "check", "count", "fetch", "store", "encode", "open")
_NOUNS = (
    "file",
    "line",
    "record",
    "token",
    "header",
    "buffer",
    "request",
    "reply",
    "session",
    "field",
    "index",
    "entry",
)
_RULES = (
    "Answer with the smallest change that solves the problem.",
    "Read a file before you change it.",
    "Run the tests after each change and say what they printed.",
    "Never guess the name of a function: search for it.",
    "Keep secrets out of logs and out of command lines.",
)


def agent_prompt(characters: int, seed: int) -> str:
    """About `characters` characters (never fewer, at most one function more); another seed differs from the start."""
    rng = random.Random(seed)
    pieces = [f"Session {rng.getrandbits(64):016x}.\n\n"]
    size = 0
    while size < characters:
        piece = _rule(rng) if rng.random() < 0.1 else _function(rng)
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces)


def _rule(rng: random.Random) -> str:
    return f"- {rng.choice(_RULES)} See section {rng.randrange(1, 400)}.\n"


def _function(rng: random.Random) -> str:
    verb, noun, other = rng.choice(_VERBS), rng.choice(_NOUNS), rng.choice(_NOUNS)
    number = rng.randrange(10_000)
    return (
        f"def {verb}_{noun}_{number}({noun}: str, {other}s: list[int], limit: int = {rng.randrange(2, 5000)}) -> int:\n"
        f'    """Says how many {other}s the {noun} holds; at most {rng.randrange(10, 900)} are looked at."""\n'
        f"    total = sum({other} % {rng.randrange(2, 97)} for {other} in {other}s[:limit])\n"
        f"    if total > {rng.randrange(100, 100_000)} and {noun}.startswith({rng.choice(_VERBS)!r}):\n"
        f"        return total - len({noun}) * {rng.randrange(2, 40)}\n"
        f"    return total\n\n"
    )
