"""What a smaller KV cache costs a model's answers, and how much speed a finer one is worth. Data and the rule.

Figures: KL divergence of the next token to an f16 cache, and how often the likeliest token is the same, all with
llama.cpp's rotation of K and V (from April 2026 on). What `llmstack bench --quality` measured of this very model counts
before what is known of its family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmstack.plan.architectures import maker_of
from llmstack.plan.facts import ModelFacts

FINER = ("f16", "q8_0")  # than the smallest, the finest first
# Types with a kernel on a card: pairs of one of these (GGML_CUDA_FA_QUANTS, ggml-cuda/CMakeLists.txt).
WITH_KERNEL = frozenset({"f16", "bf16", "q8_0", "q4_0"})
NEVER_ON_A_CARD = "iq4_nl"  # no kernel and no conversion: attention then runs on the processor (fattn.cu)
DEEP = 40_000  # tokens from which agents with a 4-bit cache were seen to fail at tool calls and not to recover
# How much longer the same work may take for a finer cache: q8_0 in general, and where 4 bits are known to hurt; f16 is
# so near to q8_0 that it must be all but free.
WORTH = 1.10
WORTH_WHERE_IT_HURTS = 1.5
FREE = 1.01
HARMLESS_KL, HARMFUL_KL = 0.02, 0.3


@dataclass(frozen=True, slots=True)
class KvHarm:
    """kl: mean, or the range of several; same: share of equal likeliest tokens, None where nobody says."""

    kl: tuple[float, float]
    same: float | None
    source: str
    measured: bool = False

    def text(self) -> str:
        low, high = self.kl
        kl = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
        same = f", the same first choice {self.same:.1%}" if self.same is not None else ""
        return f"KL {kl} to f16{same} ({self.source})"


_ANY = {
    "q8_0": KvHarm((0.0036, 0.0036), 0.968, "SmolLM2-135M, 12k tokens, llama-perplexity"),
    "q5_1": KvHarm((0.0125, 0.0125), 0.938, "SmolLM2-135M, 12k tokens, llama-perplexity"),
    "q4_1": KvHarm((0.040, 0.040), 0.901, "SmolLM2-135M, 12k tokens, llama-perplexity"),
    "q4_0": KvHarm((0.045, 0.045), 0.894, "SmolLM2-135M, 12k tokens, llama-perplexity"),
}
_QWEN = {
    "q8_0": KvHarm((0.0, 0.04), None, "Qwen3.6-27B and 35B-A3B, localbench"),
    "q4_0": KvHarm((0.087, 0.581), None, "Qwen3.6-27B and 35B-A3B, localbench; the most on long documents"),
}
_GEMMA = {
    "q8_0": KvHarm((0.108, 0.377), None, "Gemma 4 31B and 26B-A4B"),
    "q4_0": KvHarm((1.088, 1.088), 0.68, "Gemma 4 26B-A4B"),
}
_OF_MAKER = {"Gemma": _GEMMA, "Qwen": _QWEN}


def known_harm(facts: ModelFacts, measured: Mapping[str, KvHarm] | None = None) -> Mapping[str, KvHarm]:
    """By cache type: what was measured of this model, else what is known of its family, else of others."""
    return {**_ANY, **_OF_MAKER.get(maker_of(facts.arch), {}), **(measured or {})}


def hurts(harm: KvHarm | None) -> bool:
    return harm is not None and harm.kl[0] >= HARMFUL_KL


def worth(kind: str, smallest: KvHarm | None) -> float:
    """How many times as long the same work may take with this finer type. smallest: what the smallest type does."""
    if kind != "q8_0":
        return FREE
    if smallest is not None and smallest.measured and smallest.kl[1] <= HARMLESS_KL:
        return FREE
    return WORTH_WHERE_IT_HURTS if hurts(smallest) else WORTH


def warning(facts: ModelFacts, kind: str, ctx: int, measured: Mapping[str, KvHarm] | None = None) -> str:
    """A sentence where a 4-bit cache is planned for a model that suffers from it, or goes deep; else empty."""
    harm = known_harm(facts, measured).get(kind)
    if not kind.startswith(("q4", "iq4")) or harm is None or (harm.measured and harm.kl[1] <= HARMLESS_KL):
        return ""
    if hurts(harm):
        return f"a {kind} cache costs this model's answers: {harm.text()}; --kv-type q8_0 is the finer one"
    if ctx > DEEP:
        return f"a {kind} cache: agents deeper than {DEEP:,} tokens were seen to fail at tool calls with 4 bits"
    return ""
