"""Measures this machine's rates with small models of known shapes, and gives them to the planner.

Four models are written on the spot (about 570 MB; one token reads more of each than most processors' caches hold;
removed afterwards): two dense ones, wide and deep, and two with experts, wide and narrow. The engine in use runs each
on the CPU, all of them in ROUNDS and brought to one pace, because a machine's speed drifts within minutes;
`plan.calibrate.fit` finds the rates that explain all of it. A card's own rates are learned from the deployed model
instead: one this small could not keep a card busy.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from llmstack.bench.depths import Effort, measure
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import scratch
from llmstack.deploy.machine import for_engine
from llmstack.detect import calibration
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, find
from llmstack.errors import NotSo
from llmstack.hardware import Hardware
from llmstack.paths import Home
from llmstack.plan import read_facts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import Observation, fit
from llmstack.plan.goal import Goal

PROBES = (
    ProbeShape("probe-wide", layers=8, d=1536, heads=12, kv_heads=4, n_ff=4096, head_dim=128),
    ProbeShape("probe-deep", layers=28, d=512, heads=8, kv_heads=4, n_ff=2048),
    ProbeShape("probe-experts", layers=8, d=1024, heads=16, kv_heads=4, n_ff=768, experts=24, experts_used=4),
    ProbeShape("probe-narrow", layers=24, d=512, heads=8, kv_heads=4, n_ff=256, experts=16, experts_used=8),
)
ROUNDS: tuple[tuple[int, ...], ...] = ((0, 3072), (0,), (0, 3072), (0,), (0, 3072), (0,))  # depths that each visits
EFFORT = Effort(repeats=3, decode_tokens=32, seconds=60.0)
CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Calibrated:
    """lines: label, value, unit. error: the share by which the fitted model misses its own timings (9 of 10)."""

    lines: tuple[tuple[str, float, str], ...]
    timings: int
    error: float
    hardware: Hardware


def calibrate(home: Home, on_progress: Callable[[str], None], probes: Sequence[ProbeShape] = PROBES) -> Calibrated:
    """Raises NotSo when the machine was never quiet enough, or when the engine cannot run the models."""
    engine = find(home)
    hardware = for_engine(detect(), engine).hardware
    machine = calibration.apply(calibration.ensure(home, hardware), hardware, "")
    taken: list[Timing] = []
    with tempfile.TemporaryDirectory(prefix="llmstack-probe-") as folder:
        for turn, depths in enumerate(ROUNDS, start=1):
            for number, shape in enumerate(probes, start=1):
                on_progress(f"round {turn} of {len(ROUNDS)}, model {number} of {len(probes)}: {shape.name}")
                path = write_probe(shape, Path(folder) / f"{shape.name}.gguf")
                taken += observe(home, engine, hardware, path, depths)
    seen = even(taken)
    if not seen:
        raise NotSo(
            "the machine was never quiet while it was measured",
            why="other programs kept the processors busy, so the rates would be theirs as much as the machine's",
            next="try again when less is running",
        )
    fitted = fit(machine, seen, engine=engine.name)
    calibration.remember(home, hardware, fitted, engine.name)
    measured = fitted.measured
    assert measured is not None
    lines = [
        ("weights read by threads", measured.read_gbps or 0.0, "GB/s"),
        ("experts read by threads", measured.expert_read_gbps or 0.0, "GB/s"),
        ("cache read by threads", measured.cache_read_gbps or 0.0, "GB/s"),
        ("prefill on the CPU, dense", measured.dense_gflops or 0.0, "GFLOP/s"),
        ("prefill on the CPU, experts", measured.expert_gflops or 0.0, "GFLOP/s"),
        ("attention on the CPU", measured.attention_gflops or 0.0, "GFLOP/s"),
        ("values between matrix products", measured.value_gops or 0.0, "G/s"),
        ("fixed time of a block", (measured.pass_s or 0.0) * 1e6, "µs"),
        ("more of one with experts", (measured.expert_pass_s or 0.0) * 1e6, "µs"),
    ]
    for device in fitted.devices:
        lines += [
            (f"{device.name}, memory", device.bandwidth_gbps or 0.0, "GB/s"),
            (f"{device.name}, compute", device.compute_tflops or 0.0, "TFLOP/s"),
            (f"{device.name}, link", device.link_gbps or 0.0, "GB/s"),
        ]
    return Calibrated(tuple(lines), len(seen), measured.error or 0.0, fitted)


class Timing(NamedTuple):
    """One timing, and the machine's pace beside it (detect.pace; None: not taken)."""

    observation: Observation
    pace: float | None


def even(taken: Sequence[Timing]) -> list[Observation]:
    """One timing of each work instead of several, all of them at the middle of the machine's paces."""
    usual = statistics.median([pace for _, pace in taken if pace] or [1.0])
    groups: dict[tuple[str, bool, int, int], list[Observation]] = {}
    for one, pace in taken:
        at_usual = replace(one, seconds=one.seconds * (pace or usual) / usual)
        groups.setdefault((one.facts.path, one.decode, one.tokens, one.depth), []).append(at_usual)
    return [replace(same[0], seconds=statistics.median(one.seconds for one in same)) for same in groups.values()]


def observe(home: Home, engine: Engine, hardware: Hardware, path: Path, depths: Sequence[int]) -> list[Timing]:
    """Prefill and decode of one model by threads, at these depths; quiet timings only."""
    model = open_model(path)
    facts = read_facts(model.header, path=str(path))
    a = Assignment(
        ctx=CONTEXT,
        ngl=0,
        type_k="f16",
        type_v="f16",
        threads=hardware.cpu.physical_cores,
        has_gpu=bool(hardware.devices),
    )
    seen: list[Timing] = []
    argv = flags(facts, a, Goal(reasoning="auto"))
    with scratch(home, engine, argv, model_bytes=model.size_bytes) as (client, pid):
        speeds = measure(client, Sampler([pid], patience_s=40.0), depths, EFFORT, lambda _: None)
    for decode, metrics in ((False, speeds.prefill), (True, speeds.decode)):
        for depth, metric in metrics.items():
            tokens = 1 if decode else speeds.chunk
            if not metric.busy:
                seen.append(Timing(Observation(facts, a, decode, tokens, depth, tokens / metric.median), metric.pace))
    return seen
