"""Every entry of the shipped catalog on eight machines: it is planned, or refused with the figures that say why."""

from __future__ import annotations

import pytest

from llmstack.catalog.models import Catalog, Model, read_models
from llmstack.catalog.overlay import merge, parse
from llmstack.catalog.shape import describe
from llmstack.fetch.cards import machine
from llmstack.fetch.survey import UNREAD, look
from llmstack.gguf import GgufHeader
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan import Goal, Infeasible, make_plan, read_facts
from llmstack.plan.cards import listed
from support import paths

CATALOG: Catalog = read_models(merge(parse(paths.CATALOG.read_bytes(), paths.CATALOG.name)))
CPU = Cpu(16, 32, ("avx2", "f16c", "fma"))


def strix_halo() -> Hardware:
    """128 GB of RAM of which the processor's own GPU takes part."""
    gpu = Device("Radeon 8060S Graphics", "Vulkan", 98304, 94208, 256.0, unified=True, integrated=True)
    return Hardware(Ram(126976, 118784, None, 256.0), CPU, (gpu,))


MACHINES = {
    "8 GB": machine(8),
    "12 GB": machine(12),
    "16 GB": machine(16),
    "24 GB": machine(24),
    "two cards": Hardware(
        Ram(65536, 57344, None, 60.0),
        CPU,
        tuple(listed(Device(f"RTX 3090 {n}", "CUDA", 24576, 23808, id=f"CUDA{n}")) for n in (0, 1)),
    ),
    "no card": Hardware(Ram(32768, 28672, None, 60.0), CPU),
    "unified memory": strix_halo(),
    "96 GB": Hardware(
        Ram(131072, 122880, None, 90.0), CPU, (listed(Device("RTX PRO 6000 Blackwell", "CUDA", 97887, 96256)),)
    ),
}
GOAL = Goal(ctx=32768, kv_type="q8_0", parallel=1)
"""What an agent needs at least. With these pinned a plan is quick; what is left open is where everything goes."""


def header_of(model: Model, quant: str) -> GgufHeader:
    """As the catalog describes it; for an entry without dimensions that of another model stands in."""
    if model.shape:
        return describe("entry", model, quant)
    return describe("stand-in", CATALOG.models["qwen3.5-122b-a10b"], "Q4_K_M")


@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("name", CATALOG.models)
def test_every_entry_plans_on_eight_machines(name: str, where: str) -> None:
    model = CATALOG.models[name]
    facts = read_facts(header_of(model, model.quant), path=f"{name}.gguf")
    try:
        plan = make_plan(facts, MACHINES[where], GOAL)
    except Infeasible as refusal:
        assert where != "96 GB", "the largest machine takes every entry"
        assert any(character.isdigit() for character in refusal.reason), "a refusal has its figures"
        return
    assert plan.assignment.ctx == GOAL.ctx and "-m" in plan.argv
    assert plan.predicted.decode_tps > 0 and plan.predicted.prefill_tps > 0


@pytest.mark.parametrize("name", [name for name, model in CATALOG.models.items() if not model.shape])
def test_before_the_header_of_an_entry_without_dimensions_was_read_it_says_so(name: str) -> None:
    model = CATALOG.models[name]
    row = look(name, model, model.quant, MACHINES["24 GB"])
    assert not row.planned and not row.fits and row.reason == UNREAD
    assert row.size_bytes == model.sizes()[model.quant].bytes


def test_with_its_header_an_entry_without_dimensions_is_planned_like_any_other() -> None:
    name = next(name for name, model in CATALOG.models.items() if not model.shape)
    model = CATALOG.models[name]
    row = look(name, model, model.quant, MACHINES["96 GB"], None, lambda *_: header_of(model, model.quant))
    assert row.planned and row.fits and row.decode_tps > 0
