"""The long answer, the JSON contract, and the screen."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from llmstack.errors import BadInput
from llmstack.plan import Goal, Infeasible, make_plan, to_json
from llmstack.plan.explain import explain
from llmstack.render.plan import show_explained, show_plan, show_refused
from support.planner.draws import facts, machine

PLAN = make_plan(facts("qwen35moe-35b-a3b"), machine(12, 64), Goal())


def test_the_json_has_every_key_of_the_contract() -> None:
    data = json.loads(msgspec.json.encode(to_json(PLAN)))
    assert data["feasible"] is True
    assert {"name", "path", "arch", "size_bytes", "n_layer", "n_ctx_train"} <= data["model"].keys()
    assert data["hardware"].keys() == {"devices", "ram", "cpu"} | data["hardware"].keys()
    assert all({"flag", "value", "reason", "cost"} <= d.keys() for d in data["decisions"])
    keys = {"name", "weights_mib", "context_mib", "compute_mib", "other_mib", "total_mib", "budget_mib"}
    assert all(keys <= device.keys() for device in data["memory"]["devices"])
    assert keys <= data["memory"]["host"].keys()
    assert {"prefill_tps", "decode_tps", "ttft_cold_s", "ttft_warm_s", "prompt_tokens"} <= data["predicted"].keys()
    assert all({"why", "argv", "predicted"} <= other.keys() for other in data["alternatives"])
    assert tuple(data["argv"]) == PLAN.argv


def test_an_infeasible_plan_says_why_and_what_would_have_to_change() -> None:
    with pytest.raises(Infeasible) as caught:
        make_plan(facts("glm4moe-106b-a12b"), machine(8, 32), Goal())
    data = caught.value.to_json()
    assert data["feasible"] is False
    assert "does not fit" in data["reason"]
    assert data["nearest"]


@pytest.mark.parametrize("name", ["ncmoe", "-ncmoe", "--n-cpu-moe"])
def test_explain_shows_the_chosen_value_among_others(name: str) -> None:
    found = explain(PLAN, name)
    assert found.flag == "-ncmoe"
    chosen = [row for row in found.rows if row.chosen]
    assert [row.value for row in chosen] == [str(PLAN.assignment.ncmoe)]
    assert chosen[0].fits
    assert not next(row for row in found.rows if row.value == "0").fits


@pytest.mark.parametrize(
    "flag", ["-c", "-ngl", "-ub", "-ctk", "-nkvo", "-lm", "-cram", "-ctxcp", "-np", "-t", "-n", "-rea"]
)
def test_every_decided_flag_has_a_long_answer(flag: str) -> None:
    assert explain(PLAN, flag).about


def test_a_flag_that_no_plan_decides_is_refused() -> None:
    with pytest.raises(BadInput, match="does not decide"):
        explain(PLAN, "--rope-freq-base")


def test_the_screen_gives_verdict_memory_flags_and_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(PLAN)
    text = capsys.readouterr().out
    for word in ("fits", "RTX 4070", "RAM:", "-ncmoe", "prefill", "llama-server -m"):
        assert word in text
    show_explained(explain(PLAN, "-ub"), as_json=False)
    show_refused(Infeasible("too\x1b[31m big", "smaller"), as_json=False)
    assert "\x1b[31m" not in capsys.readouterr().out


def test_a_card_without_room_has_an_empty_bar(capsys: pytest.CaptureFixture[str]) -> None:
    full = replace(PLAN.hardware, devices=tuple(replace(d, free_mib=0) for d in PLAN.hardware.devices))
    show_plan(make_plan(PLAN.facts, full, replace(PLAN.goal, pins={})))
    assert "█" not in next(line for line in capsys.readouterr().out.splitlines() if "RTX 4070" in line)


@pytest.mark.parametrize("size", ["12 apples", "-3GiB", "GiB", "1e99"])
def test_an_amount_of_memory_that_is_none_is_refused(size: str) -> None:
    from llmstack.cli.options import MemorySize

    with pytest.raises(BadInput, match="no amount of memory"):
        MemorySize().convert(size, None, None)


def test_amounts_of_memory_are_read_in_every_usual_form() -> None:
    from llmstack.cli.options import MemorySize

    assert [
        MemorySize().convert(text, None, None) for text in ("12GiB", "12g", "12 GiB", "12288", "12288MiB", "0")
    ] == [12288] * 5 + [0]
