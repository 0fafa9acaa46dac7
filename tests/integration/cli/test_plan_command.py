"""`llmstack plan` on this machine: it looks which supervisor is here, so it starts a process."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from llmstack.cli.main import run
from support.planner import shapes
from support.planner.draws import machine


def test_plan_answers_from_a_file_and_its_exit_status_says_whether_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmstack.cli.plan import command

    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "home"))
    path = str(shapes.qwen3_8b().write(tmp_path))
    fits = CliRunner().invoke(command, [path, "--vram", "12GiB", "--ram", "32GiB", "--json"], standalone_mode=False)
    assert fits.return_value == 0
    assert json.loads(fits.output)["model"]["arch"] == "qwen3"
    small = CliRunner().invoke(command, [path, "--vram", "0", "--ram", "4GiB", "--json"], standalone_mode=False)
    assert small.return_value == 1
    assert json.loads(small.output)["feasible"] is False
    other = tmp_path / "hardware.json"
    other.write_bytes(msgspec.json.encode(machine(24, 64).to_json()))
    moved = CliRunner().invoke(command, [path, "--hardware", str(other), "--json"], standalone_mode=False)
    assert json.loads(moved.output)["hardware"]["devices"][0]["total_mib"] == 24576


def test_plan_and_models_list_recommend_the_same_model_for_a_named_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    words = ["--gpu", "RTX 4070", "--ram", "32"]
    assert run(["models", "list", "--json", *words]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert run(["plan", "--json", *words]) == 0
    ranked = json.loads(capsys.readouterr().out)
    assert listed["recommended"] == ranked["recommended"] != ""
    assert ranked["hardware"]["devices"][0]["name"] == "NVIDIA GeForce RTX 4070"
    files = {row["name"]: row.get("quant") for row in listed["models"]}
    assert {row["name"]: row["quant"] for row in ranked["models"]}.items() <= files.items()
    assert run(["plan", *words]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("→ ")]
    assert len(rows) == 2 and all(listed["recommended"] in line for line in rows)
