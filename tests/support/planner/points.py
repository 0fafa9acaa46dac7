"""Published speeds with this planner's prediction beside each."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from llmstack.gguf import GgmlType
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan.assignment import Assignment
from llmstack.plan.facts import ModelFacts, read_facts
from llmstack.plan.memory import Estimator
from llmstack.plan.ranges import spread
from llmstack.plan.rates import RATES, Rates
from llmstack.plan.speed import Speed
from support.planner import shapes


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    machine: str
    what: str
    value: str
    metric: str
    published: float
    predicted: float
    assumed: tuple[str, ...]
    now: bool = True  # False: of a build that computed otherwise
    factor: float = 0.0  # of the range that a plan states, 0 for memory

    @property
    def error(self) -> float:
        return self.predicted / self.published - 1

    @property
    def off(self) -> float:
        """By how much the larger of both is larger, as a share."""
        return max(self.predicted / self.published, self.published / self.predicted) - 1


@cache
def _facts(shape: str, quant: str, mtp: bool, size_bytes: int) -> ModelFacts:
    options: dict[str, Any] = {"q": GgmlType[quant]} if quant else {}
    if mtp:
        options["mtp"] = True
    facts = read_facts(getattr(shapes, shape)(**options).header())
    return _of_size(facts, size_bytes) if size_bytes else facts


def _of_size(facts: ModelFacts, size_bytes: int) -> ModelFacts:
    """The same shape in a file of another size, all its weights alike."""
    part = size_bytes / facts.size_bytes
    fields = ("rest", "experts", "dense", "largest_expert")
    blocks = tuple(
        replace(block, **{field: int(getattr(block, field) * part) for field in fields})  # type: ignore[arg-type]
        for block in facts.blocks
    )
    return replace(facts, size_bytes=size_bytes, blocks=blocks, output_bytes=int(facts.output_bytes * part))


def cases(fitted: Rates = RATES) -> Iterator[Case]:
    """Every setting of every point. `vary` names what the first values of a case stand for."""
    for point in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["point"]:
        vary = [point["vary"]] if isinstance(point["vary"], str) else point["vary"]
        for *settings, published in point["cases"]:
            one = {**point, **dict(zip(vary, settings, strict=True))}
            predicted, factor = _predict(one, fitted)
            yield Case(
                point["number"],
                point["machine"],
                point["what"],
                ", ".join(f"{name} {value}" for name, value in zip(vary, settings, strict=True) if value),
                point["metric"],
                published,
                predicted,
                tuple(point.get("assumed", ())),
                point.get("now", True),
                factor,
            )


def _predict(point: dict[str, Any], fitted: Rates) -> tuple[float, float]:
    facts = _facts(point["shape"], point.get("quant", ""), point.get("mtp", False), point.get("bytes", 0))
    card = Device(point["card"], "CUDA", 24576, 24576, link_gbps=point.get("link"))
    cores = point.get("cores", 8)
    hardware = Hardware(Ram(131072, 120000, None, point["ram"]), Cpu(cores, 2 * cores, ("avx2",)), (card,))
    base = Assignment(ctx=point.get("ctx", 32768), ngl=facts.n_layer_all + 1, type_k=point["kv"], type_v=point["kv"])
    keys = ("ngl", "ncmoe", "nkvo", "draft_max", "load_mode", "ubatch")
    a = replace(base, **{key: point[key] for key in keys if key in point})
    a = replace(a, batch=max(2048, a.ubatch))
    estimator = Estimator(facts, hardware.devices)
    speed = Speed(facts, hardware, estimator, fitted=fitted)
    if point["metric"] == "vram":
        return estimator.estimate(a).devices[0].total, 0.0
    factors = spread(facts, hardware, a)
    if point["metric"] == "decode":
        return 1 / speed.token_s(a, point["depth"]), factors.decode
    return point["tokens"] / speed.prefill_s(a, point["tokens"], point.get("depth", 0)), factors.prefill


def table() -> str:
    found = list(cases())
    lines = ["| # | point | setting | published | predicted | error | assumed |", "|--|--|--|--|--|--|--|"]
    for case in found:
        assumed = case.assumed if case.now else (*case.assumed, "another build")
        lines.append(
            f"| {case.number} | {case.what} | {case.value} | {case.published:g} | {case.predicted:.4g} | "
            f"{case.error:+.0%} | {', '.join(assumed)} |"
        )
    return "\n".join(lines)
