"""The engine's deeds against the plan: a table of situations, each with what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from llmstack.deploy.load_log import LoadLog
from llmstack.deploy.served import Intended, MeasuredRate, Served, compare, compare_rates, failure, intended, served_of
from llmstack.findings import Level
from llmstack.plan import Goal, make_plan
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord, stored
from support.planner.draws import facts, machine

CARD = Intended(
    model="/m/q.gguf", n_ctx_slot=32768, n_slots=2, vision=False, layers=25, layers_of=25, devices=("RTX 4090",),
    device_mib=8000.0, speed_known=True, driver_tells=True,
)  # fmt: skip
PROCESSOR = Intended(model="/m/q.gguf", n_ctx_slot=32768, n_slots=2)
TWO = replace(CARD, devices=("RTX 4090", "RTX 3060"))
GOOD = Served(
    n_ctx_slot=32768, n_slots=2, vision=False, template=True, layers=(25, 25), buffers_mib={"CUDA0": 8000.0},
    devices=("CUDA0",), log_tells=True, vram_mib=9500,
)  # fmt: skip
NOTHING_THERE = msgspec.structs.replace(GOOD, layers=None, buffers_mib={}, devices=(), vram_mib=None)
UNKNOWN = Served()


def of(served: Served, **changes: object) -> Served:
    return msgspec.structs.replace(served, **changes)


SITUATIONS: list[tuple[str, Intended, Served, Level | None, str]] = [
    # what, plan, engine, level of the worst finding (None: no finding), a word of it
    ("as planned", CARD, GOOD, None, ""),
    ("as planned, a driver without figures by process", CARD, of(GOOD, vram_mib=None), None, ""),
    ("a plan for the processor on the processor", PROCESSOR, NOTHING_THERE, None, ""),
    ("nobody says anything", CARD, UNKNOWN, None, ""),
    ("a CPU build: no line of layers, weights in host memory", CARD, NOTHING_THERE, Level.FAIL, "on the processor"),
    ("an RPC build: 25/25 counted, weights in host memory", CARD, of(NOTHING_THERE, layers=(25, 25)), Level.FAIL,
     "its log shows no weights there"),
    ("0 offloaded", CARD, of(NOTHING_THERE, layers=(0, 25), log_tells=False), Level.FAIL, "on the processor"),
    ("only the runtime's own memory of the card", CARD, of(NOTHING_THERE, vram_mib=500), Level.FAIL, "no weights"),
    ("a log in other words, and the weights are on the card", CARD, of(NOTHING_THERE, vram_mib=8100), None, ""),
    ("a silent log, and the driver says none", CARD, of(UNKNOWN, vram_mib=0), Level.FAIL, "its log shows no weights"),
    ("the log speaks of the card, the driver says none", CARD, of(GOOD, vram_mib=0), Level.FAIL, "holds no memory"),
    ("memory that the driver does not count", replace(CARD, driver_tells=False), of(GOOD, vram_mib=0), None, ""),
    ("fewer layers", CARD, of(GOOD, layers=(20, 25)), Level.WARN, "put 20 there"),
    ("one of two cards", TWO, GOOD, Level.WARN, "CUDA0 only"),
    ("both cards", TWO, of(GOOD, buffers_mib={"CUDA0": 5000.0, "CUDA1": 3000.0}), None, ""),
    ("split by tensor: one buffer for both", TWO, of(GOOD, buffers_mib={"Meta()": 8000.0}), None, ""),
    ("capped at the training length", CARD, of(GOOD, n_ctx_slot=8192, trained_ctx=8192), Level.FAIL, "8,192 tokens"),
    ("made smaller", PROCESSOR, of(GOOD, n_ctx_slot=4096), Level.FAIL, "planned 32,768"),
    ("padded to a larger one", CARD, of(GOOD, n_ctx_slot=33024), None, ""),
    ("fewer slots", CARD, of(GOOD, n_slots=1), Level.WARN, "1 slots, planned 2"),
    ("images planned and refused", replace(CARD, vision=True), GOOD, Level.FAIL, "takes none"),
    ("images planned, nobody says", replace(CARD, vision=True), of(GOOD, vision=None), None, ""),
    ("images planned and taken", replace(CARD, vision=True), of(GOOD, vision=True), None, ""),
    ("no chat template", CARD, of(GOOD, template=False), Level.WARN, "no chat template"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "served", "level", "word"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS]
)
def test_each_situation_has_its_finding(plan: Intended, served: Served, level: Level | None, word: str) -> None:
    findings = compare(plan, served)
    if level is None:
        assert findings == ()
        return
    worst = findings[0]
    assert worst.status is level
    assert word in f"{worst.finding} {worst.cause}"
    assert worst.cause and worst.remedy
    assert (failure(findings) is None) is (level is not Level.FAIL)


def test_fault_54_an_engine_that_computes_on_the_processor_is_named_with_card_layers_and_way_out() -> None:
    [finding] = compare(CARD, NOTHING_THERE)
    assert finding.finding.startswith("the engine lists the card and computes on the processor: the plan puts 25 of 25")
    assert "RTX 4090" in finding.finding
    assert "engine list" in finding.remedy and "up /m/q.gguf --set ngl=0" in finding.remedy


def test_a_capped_context_names_the_cause_and_a_context_that_is_served() -> None:
    [finding] = compare(CARD, of(GOOD, n_ctx_slot=8192, trained_ctx=8192))
    assert "trained on 8,192 tokens" in finding.cause
    assert finding.remedy.endswith("up /m/q.gguf --ctx 8192")


SLOW = (MeasuredRate("prefill", 12.0, 2000.0, 1024), MeasuredRate("decode", 9.0, 60.0, 32))
RATES: list[tuple[str, Intended, Served, tuple[MeasuredRate, ...], float, float, Level | None, str]] = [
    # what, plan, engine, rates, load of others, MiB from disk, level, a word of the cause
    ("a tenth is missed", CARD, GOOD, SLOW, 0.0, 0.0, Level.FAIL, "throttled"),
    ("on WSL", replace(CARD, wsl=True), GOOD, SLOW, 0.0, 0.0, Level.FAIL, "Windows may have moved GPU memory"),
    ("nobody shows the card in use", CARD, UNKNOWN, SLOW, 0.0, 0.0, Level.FAIL, "most likely computes on"),
    ("a card whose speed was assumed", replace(CARD, speed_known=False), GOOD, SLOW, 0.0, 0.0, Level.WARN, "assumed"),
    ("the processor's plan", PROCESSOR, GOOD, SLOW, 0.0, 0.0, None, ""),
    ("others keep the machine busy", CARD, GOOD, SLOW, 0.5, 0.0, None, ""),
    ("weights are read from disk", CARD, GOOD, SLOW, 0.0, 4000.0, None, ""),
    ("a fifth of the plan", CARD, GOOD, (MeasuredRate("prefill", 400.0, 2000.0, 1024),), 0.0, 0.0, None, ""),
    ("too few tokens", CARD, GOOD, (MeasuredRate("prefill", 12.0, 2000.0, 60),), 0.0, 0.0, None, ""),
    ("nothing was measured", CARD, GOOD, (MeasuredRate("decode", 0.0, 60.0, 32),), 0.0, 0.0, None, ""),
]  # fmt: skip


@pytest.mark.parametrize("row", RATES, ids=[row[0] for row in RATES])
def test_a_rate_below_a_tenth_of_a_device_s_plan_is_a_failure_with_its_cause(
    row: tuple[str, Intended, Served, tuple[MeasuredRate, ...], float, float, Level | None, str],
) -> None:
    _, plan, served, rates, load, disk, level, word = row
    findings = compare_rates(plan, served, rates, load=load, disk_mib=disk)
    if level is None:
        assert findings == ()
        return
    assert findings[0].status is level
    assert findings[0].finding == "prefill 12.0 tokens/s, planned 2,000: less than a tenth"
    assert word in findings[0].cause
    assert "processors meanwhile" not in findings[0].cause


def deployed(**changes: object) -> StackRecord:
    plan = make_plan(facts("qwen3moe-30b-a3b"), machine(24, 64, gpus=1), Goal(ctx=32768))
    plan = replace(plan, assignment=replace(plan.assignment, **changes))  # type: ignore[arg-type]
    return StackRecord(
        ModelEntry("qwen", "/m/q.gguf"), ServerEntry("127.0.0.1", 8080), n_ctx_slot=1024, stored_plan=stored(plan)
    )


def test_what_is_intended_is_the_plan_s_not_what_the_record_has_learnt() -> None:
    plan = intended(deployed(ngl=99, parallel=2, kv_unified=False))
    assert (plan.n_ctx_slot, plan.n_slots, plan.layers, plan.layers_of) == (16384, 2, 49, 49)
    assert plan.device_mib > 1000 and len(plan.devices) == 1
    assert plan.model == "qwen"


def test_a_plan_that_leaves_the_card_alone_expects_nothing_of_it() -> None:
    assert intended(deployed(ngl=0)).layers == 0


def test_a_model_called_after_its_file_is_named_by_its_path() -> None:
    stack = msgspec.structs.replace(deployed(), model=ModelEntry("q", "/m/q.gguf"))
    assert intended(stack).model == "/m/q.gguf"


def test_what_props_says_is_what_is_served() -> None:
    props = {
        "default_generation_settings": {"n_ctx": 8192},
        "total_slots": 2,
        "chat_template": "{{ messages }}",
        "modalities": {"vision": True, "audio": False},
    }
    served = served_of(props, LoadLog(loads=True), verbose=True, vram_mib=None)
    assert (served.n_ctx_slot, served.n_slots, served.template, served.vision) == (8192, 2, True, True)
    assert served.log_tells


def test_a_log_of_an_engine_that_was_not_started_to_list_buffers_says_nothing_against_it() -> None:
    assert not served_of({}, LoadLog(loads=True), verbose=False, vram_mib=None).log_tells
    assert not served_of({}, LoadLog(), verbose=True, vram_mib=None).log_tells


def test_props_of_another_shape_say_nothing() -> None:
    props: dict[str, object] = {"default_generation_settings": [], "total_slots": "4", "modalities": 1}
    served = served_of(props, LoadLog(), verbose=True, vram_mib=None)
    assert (served.n_ctx_slot, served.n_slots, served.vision, served.template) == (None, None, None, None)
