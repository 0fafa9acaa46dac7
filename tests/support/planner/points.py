"""Published speeds with this planner's prediction beside each."""

from __future__ import annotations

import statistics
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
from llmstack.plan.speed import Speed
from support.planner import shapes


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    what: str
    value: str
    metric: str
    published: float
    predicted: float
    assumed: tuple[str, ...]

    @property
    def error(self) -> float:
        return self.predicted / self.published - 1


@cache
def _facts(shape: str, quant: str, mtp: bool) -> ModelFacts:
    options: dict[str, Any] = {"q": GgmlType[quant]} if quant else {}
    if mtp:
        options["mtp"] = True
    return read_facts(getattr(shapes, shape)(**options).header())


def cases() -> Iterator[Case]:
    for point in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["point"]:
        facts = _facts(point["shape"], point.get("quant", ""), point.get("mtp", False))
        card = Device(point["card"], "CUDA", 24576, 24576)
        hardware = Hardware(Ram(131072, 120000, None, point["ram"]), Cpu(8, 16, ("avx2",)), (card,))
        for setting, published in point["cases"]:
            a = _assignment(facts, point, setting)
            yield Case(
                point["number"],
                point["what"],
                f"{point['vary']} {setting}",
                point["metric"],
                published,
                _predict(facts, hardware, a, point),
                tuple(point.get("assumed", ())),
            )


def _assignment(facts: ModelFacts, point: dict[str, Any], setting: int) -> Assignment:
    base = Assignment(ctx=point.get("ctx", 32768), ngl=facts.n_layer_all + 1, type_k=point["kv"], type_v=point["kv"])
    given = {key: point[key] for key in ("ncmoe", "nkvo", "draft_max", "load_mode") if key in point}
    a = replace(base, **given, **{point["vary"]: setting})
    return replace(a, batch=max(2048, a.ubatch))


def _predict(facts: ModelFacts, hardware: Hardware, a: Assignment, point: dict[str, Any]) -> float:
    estimator = Estimator(facts, hardware.devices)
    speed = Speed(facts, hardware, estimator)
    if point["metric"] == "vram":
        return estimator.estimate(a).devices[0].total
    if point["metric"] == "decode":
        return 1 / speed.token_s(a, point["depth"])
    return point["tokens"] / speed.prefill_s(a, point["tokens"], 0)


def errors_by_point(found: list[Case]) -> dict[int, float]:
    """The median error of each published point, as a share, over its settings and metrics."""
    numbers = sorted({case.number for case in found})
    return {n: statistics.median(abs(case.error) for case in found if case.number == n) for n in numbers}


def table() -> str:
    found = list(cases())
    lines = ["| # | point | setting | published | predicted | error | assumed |", "|--|--|--|--|--|--|--|"]
    for case in found:
        lines.append(
            f"| {case.number} | {case.what} | {case.value} | {case.published:g} | {case.predicted:.4g} | "
            f"{case.error:+.0%} | {', '.join(case.assumed)} |"
        )
    errors = errors_by_point(found)
    every = statistics.median(abs(case.error) for case in found)
    worst = max(errors, key=errors.__getitem__)
    lines += ["", f"Median error of the thirteen points {statistics.median(errors.values()):.0%}, of all settings"]
    lines[-1] += f" {every:.0%}; the worst point is number {worst} ({errors[worst]:.0%})."
    return "\n".join(lines)
