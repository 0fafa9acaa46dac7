"""Calibration: rates that make the speed model's own formulas come true on a machine."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from llmstack.hardware import Cpu, Device, Hardware, Measured, Ram
from llmstack.plan import read_facts
from llmstack.plan.assignment import Assignment
from llmstack.plan.calibrate import ASSUMED_ERROR, Observation, fit, predict_s, stated_error
from llmstack.plan.facts import ModelFacts
from support.planner import shapes

CPU_ONLY = Hardware(Ram(65536, 60000), Cpu(8, 16, ("avx2",)))
CARD = Device("NVIDIA GeForce RTX 4070", "CUDA", 12282, 11900)
TRUE = Measured(
    read_gbps=21.0, expert_read_gbps=12.0, cache_read_gbps=9.0, dense_gflops=410.0, expert_gflops=150.0,
    attention_gflops=70.0, pass_s=4e-5,
)  # fmt: skip


def facts_of(shape: shapes.Shape) -> ModelFacts:
    return read_facts(shape.header(), path="/m.gguf")


def observe(hardware: Hardware, facts: ModelFacts, noise: float = 0.0) -> list[Observation]:
    """What a machine with exactly these rates would be measured at, each second timing `noise` too slow."""
    a = Assignment(ctx=65536, ngl=99 if hardware.devices else 0, threads=8, has_gpu=bool(hardware.devices))
    factors = itertools.cycle((1.0, 1.0 + noise))
    return [
        Observation(facts, a, decode, tokens, depth, next(factors) * predict_s(
            facts, hardware, a, decode=decode, tokens=tokens, depth=depth
        ))
        for decode, tokens, depth in ((False, 512, 0), (False, 512, 8192), (True, 1, 0), (True, 1, 8192))
    ]  # fmt: skip


def test_rates_measured_on_two_models_predict_a_third_of_another_shape() -> None:
    machine = replace(CPU_ONLY, measured=TRUE)
    seen = [o for make in (shapes.llama_8b, shapes.qwen3moe_30b) for o in observe(machine, facts_of(make()))]
    calibrated = fit(CPU_ONLY, seen)
    for expected in observe(machine, facts_of(shapes.qwen2_14b())):
        found = predict_s(
            expected.facts, calibrated, expected.assignment,
            decode=expected.decode, tokens=expected.tokens, depth=expected.depth,
        )  # fmt: skip
        assert found == pytest.approx(expected.seconds, rel=0.1)


def test_a_fit_says_how_far_it_is_off() -> None:
    machine = replace(CPU_ONLY, measured=TRUE)
    exact = fit(CPU_ONLY, observe(machine, facts_of(shapes.llama_8b())))
    noisy = fit(CPU_ONLY, [o for f in (0.0, 0.9) for o in observe(machine, facts_of(shapes.llama_8b()), f)])
    assert exact.measured is not None and noisy.measured is not None
    assert exact.measured.error is not None and exact.measured.error < 0.05
    assert noisy.measured.error is not None and noisy.measured.error > 0.15


def test_a_rate_that_nothing_measured_depends_on_stays() -> None:
    """A dense model says nothing about experts."""
    known = replace(CPU_ONLY, measured=TRUE)
    fitted = fit(known, observe(replace(CPU_ONLY, measured=replace(TRUE, read_gbps=40.0)), facts_of(shapes.llama_8b())))
    assert fitted.measured is not None
    assert fitted.measured.expert_gflops == pytest.approx(TRUE.expert_gflops, rel=0.01)
    assert fitted.measured.read_gbps == pytest.approx(40.0, rel=0.1)


def test_a_card_that_is_slower_than_its_table_is_found_out() -> None:
    real = replace(CPU_ONLY, devices=(replace(CARD, bandwidth_gbps=300.0, compute_tflops=30.0, link_gbps=12.0),))
    fitted = fit(replace(CPU_ONLY, devices=(CARD,)), observe(real, facts_of(shapes.llama_8b())))
    assert fitted.devices[0].bandwidth_gbps == pytest.approx(300.0, rel=0.1)
    assert fitted.devices[0].compute_tflops == pytest.approx(30.0, rel=0.15)


def test_without_measurements_nothing_changes_and_the_error_is_the_assumed_one() -> None:
    assert fit(CPU_ONLY, []) == CPU_ONLY
    assert stated_error(CPU_ONLY) == ASSUMED_ERROR


def smaller(facts: ModelFacts, rest: int, experts: int) -> ModelFacts:
    """So many times fewer bytes of a block's dense weights and of its experts, as many blocks."""
    blocks = tuple(
        replace(block, rest=block.rest // rest, dense=block.dense // rest, experts=block.experts // experts)
        for block in facts.blocks
    )
    return replace(facts, blocks=blocks, output_bytes=facts.output_bytes // rest)


def test_a_block_of_experts_costs_a_time_of_its_own_that_is_told_apart_from_reading_them() -> None:
    """Small models, where a fixed time shows; two of them with experts, because one alone could not tell."""
    real = replace(CPU_ONLY, measured=replace(TRUE, expert_read_gbps=21.0, expert_pass_s=3e-4))
    dense, mixed = facts_of(shapes.llama_8b()), facts_of(shapes.qwen3moe_30b())
    models = (dense, smaller(dense, 64, 1), smaller(mixed, 64, 8), smaller(mixed, 64, 64))
    fitted = fit(CPU_ONLY, [o for facts in models for o in observe(real, facts)])
    assert fitted.measured is not None
    assert fitted.measured.expert_pass_s == pytest.approx(3e-4, rel=0.2)
    assert fitted.measured.expert_read_gbps == pytest.approx(21.0, rel=0.1)


def test_a_timing_that_is_off_does_not_take_experts_to_be_read_from_another_memory() -> None:
    """Reading and the fixed time of a block trade places easily: dense weights' rate, of the same memory, decides."""
    real = replace(CPU_ONLY, measured=replace(TRUE, read_gbps=20.0, expert_read_gbps=20.0, expert_pass_s=5e-5))
    dense, mixed = facts_of(shapes.llama_8b()), facts_of(shapes.qwen3moe_30b())
    [few, many] = [observe(real, smaller(mixed, 64, experts)) for experts in (64, 32)]
    quick = [replace(o, seconds=o.seconds * 0.85) if o.decode else o for o in many]
    fitted = fit(CPU_ONLY, [*observe(real, dense), *observe(real, smaller(dense, 64, 1)), *few, *quick])
    assert fitted.measured is not None and fitted.measured.expert_read_gbps is not None
    assert fitted.measured.read_gbps == pytest.approx(20.0, rel=0.1)
    assert fitted.measured.expert_read_gbps == pytest.approx(20.0, rel=0.25)
