"""Prefill and decode of one engine at growing depths: one conversation that grows, measured at its marks.

At each mark the cache holds exactly that many tokens. Prefill is CHUNK new tokens on top (what a coding agent's
turn adds), decode a few generated ones: the same two quantities that llama-bench calls pp512 and tg with -d.
A machine so slow that CHUNK tokens would take much of the time allowed reads fewer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmstack.bench.metrics import decode_at, prefill_at
from llmstack.bench.sample import Sampler, Work
from llmstack.engine.control import EngineClient
from llmstack.judge import Metric
from llmstack.workload import agent_prompt

CHUNK = 512
LEAST_CHUNK = 64
CHUNK_SHARE = 1 / 8  # of the time allowed, at most, for reading one chunk
ROOM = 64  # tokens left free behind the deepest mark

Step = Callable[[str], None]


class Prompts:
    """Agent-shaped text that no cache has seen, in exact numbers of tokens; with a seed, the same text each time."""

    def __init__(self, engine: EngineClient, seed: int | None = None) -> None:
        self._engine = engine
        self._seed = time.time_ns() if seed is None else seed
        self._spare: list[int] = []
        sample = agent_prompt(4_000, self._seed)
        self.characters_per_token = len(sample) / max(1, engine.count_tokens(sample))

    def text(self, tokens: int) -> str:
        """About this many tokens."""
        self._seed += 1
        characters = int(tokens * self.characters_per_token)
        return agent_prompt(characters, self._seed)[:characters]

    def tokens(self, count: int) -> list[int]:
        """Exactly this many, never the same start twice."""
        while len(self._spare) < count:
            self._spare = self._engine.tokens(self.text(max(count, 4 * CHUNK) * 3 // 2 + 64))
        taken, self._spare = self._spare[:count], self._spare[count:]
        return taken


@dataclass(frozen=True, slots=True)
class Effort:
    """repeats: clean samples wanted per quantity; decode_tokens: generated per sample; seconds: at most, in all."""

    repeats: int
    decode_tokens: int
    seconds: float


@dataclass(slots=True)
class Depths:
    """Metrics by depth; grown: (tokens, depth before, seconds) of the conversation's own growth, each read cold.

    chunk: tokens of one prefill. left_out: depths for which the time allowed was too short.
    """

    prefill: dict[int, Metric] = field(default_factory=dict)
    decode: dict[int, Metric] = field(default_factory=dict)
    grown: list[tuple[int, int, float]] = field(default_factory=list)
    chunk: int = CHUNK
    left_out: list[int] = field(default_factory=list)

    @property
    def cold_tokens(self) -> int:
        return sum(tokens for tokens, _, _ in self.grown)

    @property
    def cold_tps(self) -> float | None:
        """tokens/s over the whole growth: what a first prompt of cold_tokens gets."""
        seconds = sum(spent for _, _, spent in self.grown)
        return self.cold_tokens / seconds if seconds else None


def measure(
    engine: EngineClient,
    sampler: Sampler,
    depths: Sequence[int],
    effort: Effort,
    step: Step,
    *,
    into: Depths | None = None,
    chunk: int | None = None,
) -> Depths:
    """Measures at each depth that effort.seconds allow; the first one always. `into` is filled as it goes, so that an
    interrupt keeps what there is. chunk: tokens of one prefill; None: what the time allows, CHUNK at most.

    Raises NotSo when the engine fails.
    """
    speeds = into if into is not None else Depths()
    prompts = Prompts(engine)
    began = time.perf_counter()
    # Pages weights in, and compiles kernels on some backends; its speed is a guess of the rest's.
    first = engine.complete(prompts.tokens(LEAST_CHUNK), n_predict=4)
    speeds.chunk = chunk or _chunk(first.prefill_tps, effort.seconds)
    if speeds.chunk > LEAST_CHUNK:
        engine.complete(prompts.tokens(speeds.chunk), n_predict=1)
    decode_tps = first.decode_tps
    base: list[int] = []
    for number, depth in enumerate(depths):
        left = effort.seconds - (time.perf_counter() - began)
        if number and _cost(speeds, depth, len(base), effort) > left:
            speeds.left_out += depths[number:]
            break
        if depth > len(base):
            step(f"a prompt of {depth:,} tokens")
            base = _grow(engine, prompts, base, depth, speeds)
        share = max(left / 2 / max(len(depths) - number, 1), 0.1)
        step(f"prefill at a depth of {depth:,}")
        speeds.prefill[depth] = sampler.rate(
            prefill_at(depth), _prefill(engine, prompts, base, speeds.chunk), repeats=effort.repeats, seconds=share
        )
        step(f"decode at a depth of {depth:,}")
        tokens = max(min(effort.decode_tokens, int(share * decode_tps / 2)), 4)
        speeds.decode[depth] = sampler.rate(
            decode_at(depth), _decode(engine, prompts, base, tokens), repeats=effort.repeats, seconds=share
        )
        decode_tps = speeds.decode[depth].median
    return speeds


def _chunk(prefill_tps: float, seconds: float) -> int:
    """The largest of CHUNK and its halves that is read in CHUNK_SHARE of the seconds."""
    chunk = CHUNK
    while chunk > LEAST_CHUNK and chunk > prefill_tps * seconds * CHUNK_SHARE:
        chunk //= 2
    return chunk


def _grow(engine: EngineClient, prompts: Prompts, base: list[int], depth: int, speeds: Depths) -> list[int]:
    grown = base + prompts.tokens(depth - len(base))
    done = engine.complete(grown, n_predict=1)
    speeds.grown.append((done.prompt_n, done.cached_n, done.prompt_ms / 1000))
    return grown


def _prefill(engine: EngineClient, prompts: Prompts, base: list[int], chunk: int) -> Callable[[], Work]:
    def work() -> Work:
        done = engine.complete(base + prompts.tokens(chunk), n_predict=1)
        return Work(done.prompt_n, done.prompt_ms / 1000)

    return work


def _decode(engine: EngineClient, prompts: Prompts, base: list[int], tokens: int) -> Callable[[], Work]:
    def work() -> Work:
        done = engine.complete(base + prompts.tokens(4), n_predict=tokens + 1)
        return Work(max(done.predicted_n - 1, 1), done.predicted_ms / 1000)

    return work


def _cost(speeds: Depths, depth: int, at: int, effort: Effort) -> float:
    """Seconds that the next mark takes, from what the last one showed."""
    prefill = list(speeds.prefill.values())[-1].median or 1.0
    decode = list(speeds.decode.values())[-1].median or 1.0
    again = min(effort.repeats, 3)
    return (depth - at) / prefill * 1.3 + again * (speeds.chunk / prefill + effort.decode_tokens / decode) * 1.3
