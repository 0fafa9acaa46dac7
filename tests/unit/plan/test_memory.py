"""Figures that llama-server 11434 itself reported for these shapes, so that the model is held without an engine.

Each row: shape, what differs from `-c 65536 -np 1 -ctk q4_0 -ctv q4_0 -fa on -ub 512 -ngl 99`, then the GPU's and the
host's model / context / compute in MiB. Measured with tests/support/planner/oracle.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmstack.gguf import GgufError
from llmstack.gguf.header import GgufHeader
from llmstack.hardware import Device
from llmstack.plan.assignment import Assignment
from llmstack.plan.compare import read_fit
from llmstack.plan.facts import BlockKind, read_facts
from llmstack.plan.memory import Estimator, context_shape
from support.planner import shapes
from support.planner.draws import NAMES, facts, machine

RPC = (Device("RPC0", "RPC", 24000, 24000),)
FLAGS = ("amx_int8", "avx2", "avx512f")  # of the machine that reported
REPORTED: list[tuple[str, dict[str, Any], tuple[int, int, int], tuple[int, int, int]]] = [
    ("qwen3moe-30b-a3b", {"ncmoe": 20}, (9862, 1728, 148), (6646, 0, 104)),
    ("llama-8b", {"ubatch": 2048}, (4650, 1152 * 2, 720), (281, 0, 384)),
    ("gemma3-12b", {"ctx": 32768, "swa_full": True}, (7103, 3456, 184), (540, 0, 94)),
    ("gpt-oss-20b", {"ctx": 32768, "swa_full": True}, (10949, 432, 154), (586, 0, 86)),
    ("qwen2-14b", {"ctx": 32768, "ngl": 40, "ncffn": 20}, (5654, 1404, 133), (3409, 324, 163)),
    ("qwen3moe-30b-a3b", {"ctx": 32768, "ngl": 40, "ncmoe": 20}, (9760, 702, 124), (6751, 162, 120)),
    ("devstral-24b", {"ctx": 32768, "ncffn": 10}, (11040, 1440, 274), (3522, 0, 244)),
    ("qwen35-27b-mtp", {"ctx": 32768}, (15490, 725, 174), (682, 0, 72)),
    ("qwen35-27b-mtp", {"ctx": 32768, "draft_max": 2}, (15741, 1152, 304), (682, 0, 124)),
    ("qwen35moe-35b-a3b-mtp", {"ctx": 32768, "draft_max": 3, "ncmoe": 12}, (13792, 495, 192), (5456, 0, 136)),
]


def model(name: str) -> Any:
    if name.endswith("-mtp"):
        make = shapes.qwen35_27b if "27b" in name else shapes.qwen35moe_35b
        return read_facts(make(mtp=True).header())
    return facts(name)


@pytest.mark.parametrize(("name", "fields", "gpu", "host"), REPORTED)
def test_memory_is_what_llama_server_reported(
    name: str, fields: dict[str, Any], gpu: tuple[int, int, int], host: tuple[int, int, int]
) -> None:
    found = model(name)
    a = Assignment(**{"ctx": 65536, "ngl": found.n_layer_all + 1, **fields})
    memory = Estimator(found, RPC, cpu_flags=FLAGS).estimate(a)
    for use, (weights, context, compute) in ((memory.devices[0], gpu), (memory.host, host)):
        assert use.weights == pytest.approx(weights + 0.5, abs=1.5)
        assert use.context == pytest.approx(context + 0.5, abs=1.5)
        assert use.compute == pytest.approx(compute, abs=max(16, 0.03 * compute))


def test_ngl_counts_the_output_first_and_then_the_last_blocks() -> None:
    estimator = Estimator(facts("llama-8b"), RPC)
    whole = estimator.estimate(Assignment(ctx=8192, ngl=33)).devices[0]
    assert estimator.estimate(Assignment(ctx=8192, ngl=20)).devices[0].context == whole.context * 19 / 32
    assert estimator.estimate(Assignment(ctx=8192, ngl=1)).devices[0].context == 0
    assert estimator.estimate(Assignment(ctx=8192, ngl=1)).devices[0].weights > 0


def test_a_context_is_padded_and_divided_between_slots() -> None:
    assert context_shape(facts("llama-8b"), Assignment(ctx=1000, ngl=0)).full == 1024
    two = context_shape(facts("llama-8b"), Assignment(ctx=65536, ngl=0, parallel=2))
    assert (two.full, two.streams) == (32768, 2)
    window = context_shape(facts("gemma3-12b"), Assignment(ctx=65536, ngl=0))
    assert (window.full, window.window) == (65536, 1536)
    assert context_shape(facts("gemma3-12b"), Assignment(ctx=65536, ngl=0, swa_full=True)).window == 65536


def test_cuda_adds_what_llama_cpps_report_leaves_out() -> None:
    cuda = Estimator(facts("llama-8b"), (Device("RTX 4090", "CUDA", 24000, 24000),))
    a = Assignment(ctx=131072, ngl=33)
    assert cuda.estimate(a).devices[0].other == 506 + 50 + 512  # driver, growth, one block's cache in f16
    assert cuda.estimate(replace(a, type_k="f16", type_v="f16")).devices[0].other == 506


def test_prompt_cache_and_checkpoints_are_counted_in_ram() -> None:
    estimator = Estimator(facts("qwen35moe-35b-a3b"), RPC)
    plain = estimator.estimate(Assignment(ctx=65536, ngl=41))
    more = estimator.estimate(Assignment(ctx=65536, ngl=41, cache_ram_mib=1000, checkpoints=32))
    assert plain.checkpoint == pytest.approx(62.8, abs=0.5)  # 63 MiB a slot, as measured
    assert more.host.other - plain.host.other == pytest.approx(1000 + 32 * plain.checkpoint)


def test_each_architecture_keeps_what_its_blocks_need() -> None:
    kinds = {name: [b.kind for b in facts(name).blocks] for name in ("qwen35moe-35b-a3b", "gemma3-12b", "gpt-oss-20b")}
    assert kinds["qwen35moe-35b-a3b"].count(BlockKind.FULL) == 10
    assert kinds["qwen35moe-35b-a3b"].count(BlockKind.RECURRENT) == 30
    assert kinds["gemma3-12b"].count(BlockKind.FULL) == 8
    assert kinds["gpt-oss-20b"].count(BlockKind.FULL) == 12
    nemotron = facts("nemotron-h-moe-30b-a3b")
    assert {b.kind for b in nemotron.blocks} == {BlockKind.FULL, BlockKind.RECURRENT, BlockKind.NONE}
    assert all(b.v_width == 0 for b in facts("deepseek2-30b-a3b").blocks)


def _renamed(arch: str) -> GgufHeader:
    header = shapes.llama_8b().header()
    values = {key.replace("llama.", f"{arch}."): value for key, value in header.values.items()}
    return replace(header, values={**values, "general.architecture": arch})


def test_an_unknown_architecture_is_planned_from_its_tensors_and_says_so() -> None:
    found = read_facts(_renamed("brandnew"))
    assert not found.architecture.checked
    known, unknown = (Estimator(f, RPC).estimate(Assignment(ctx=8192, ngl=33)) for f in (facts("llama-8b"), found))
    assert unknown.devices[0].weights == known.devices[0].weights
    assert unknown.devices[0].context == known.devices[0].context


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_architecture_of_any_kind_is_planned_with_its_cache_in_ram(name: str) -> None:
    known = facts(name)
    model = replace(known, arch="other")
    hardware = machine(24, 64)
    for ngl in (known.n_layer_all // 2, known.n_layer_all + 1):
        a = Assignment(ctx=65536, ngl=ngl, nkvo=True)
        use = Estimator(model, hardware.devices).estimate(a).devices[0]
        assert use.context == 0
        assert use.compute > Estimator(model, hardware.devices).estimate(replace(a, ctx=8192)).devices[0].compute


@pytest.mark.parametrize("key", ["llama.block_count", "llama.embedding_length"])
def test_a_header_without_what_a_plan_needs_is_refused(key: str) -> None:
    header = shapes.llama_8b().header()
    values = {k: v for k, v in header.values.items() if k != key}
    with pytest.raises(GgufError, match=key):
        read_facts(replace(header, values=values))


def test_an_absurd_block_count_is_refused() -> None:
    header = shapes.llama_8b().header()
    with pytest.raises(GgufError, match="blocks"):
        read_facts(replace(header, values={**header.values, "llama.block_count": 1 << 30}))


def test_the_flags_of_fit_are_read_as_blocks_in_ram() -> None:
    moe, base = facts("qwen3moe-30b-a3b"), Assignment(ctx=65536, ngl=49)
    patterns = [
        r"blk\.44\.ffn_down.*=CPU",
        *(rf"blk\.{n}\.ffn_(up|down|gate_up|gate)_(ch|)exps=CPU" for n in (45, 46, 47)),
    ]
    read = read_fit(moe, ["-c", "65536", "-ngl", "49", "-ot", '"' + ",".join(patterns) + '"'], base)
    assert (read.ngl, read.ncmoe) == (49, 3)
    assert read_fit(moe, ["-ngl", "-1"], base).ngl == 49
