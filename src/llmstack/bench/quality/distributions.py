"""How likely an engine finds each next token, at many places of one text, and how far two engines are apart.

llama-server gives no likelihoods of a prompt's own tokens, so each place is a request of its own: the text up to there,
one token to come. The prefix comes from the cache, so that a place costs about one decode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.engine.control import EngineClient
from llmstack.errors import NotSo

SHOWN = 256  # likeliest tokens that are asked for
COMPARED = 100  # of the reference's, the rest counts as one


Distribution = Mapping[int, float]  # log-likelihood by token, of the likeliest


@dataclass(frozen=True, slots=True)
class Apart:
    """Of one place. kl: Kullback-Leibler divergence to the reference, nats. same: the likeliest token is the same."""

    kl: float
    same: bool


def read(
    engine: EngineClient, tokens: Sequence[int], depths: Sequence[int], places: int, step: Callable[[str], None]
) -> dict[int, list[Distribution]]:
    """At each depth, `places` distributions one token apart, some empty. Raises NotSo when the engine fails."""
    seen: dict[int, list[Distribution]] = {}
    for depth in depths:
        step(f"{places} places at a depth of {depth:,}")
        seen[depth] = [engine.likelihoods(tokens[: depth + place], SHOWN) for place in range(places)]
        if not any(seen[depth]):
            raise NotSo("the engine says nothing of the likelihood of its tokens", next=command_line("engine", "list"))
    return seen


def apart(reference: Distribution, other: Distribution) -> Apart:
    """Over the COMPARED likeliest of the reference, and all others as one: a lower bound of the whole divergence.

    A token that the other does not show counts with the least likelihood that it shows.
    """
    likeliest = sorted(reference, key=reference.__getitem__, reverse=True)[:COMPARED]
    least = min(other.values())
    kl = rest = other_rest = 0.0
    for token in likeliest:
        p, log_q = math.exp(reference[token]), other.get(token, least)
        kl += p * (reference[token] - log_q)
        rest += p
        other_rest += math.exp(log_q)
    rest, other_rest = max(1 - rest, 0.0), max(1 - other_rest, 1e-9)
    if rest > 1e-9:
        kl += rest * math.log(rest / other_rest)
    return Apart(max(kl, 0.0), likeliest[0] == max(other, key=other.__getitem__))
