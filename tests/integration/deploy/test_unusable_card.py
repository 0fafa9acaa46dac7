"""A card that the engine cannot use: every command says so, and none downloads a model for the processor first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmstack import paths
from llmstack.cli.main import run
from llmstack.deploy import machine as machines
from llmstack.detect import hardware
from llmstack.detect.driver_cards import DriverCard
from llmstack.detect.hardware import Detected
from llmstack.hardware import Device

CARD = Device("NVIDIA GeForce RTX 4070", "CUDA", 12282, 11900)


@pytest.fixture(autouse=True)
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, with an RTX 4070 that only the driver sees: the embedded engine is built for processors."""
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    paths.home().make()
    real = hardware.detect

    def detect() -> Detected:
        seen = real()
        return replace(seen, hardware=replace(seen.hardware, devices=(CARD,)), cards=(DriverCard(CARD),))

    monkeypatch.setattr(machines, "detect", detect)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been asked of the hub."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise ConnectionError("no byte must come before the sentence")

    for name in ("llmstack.deploy.prepare.pull", "llmstack.deploy.prepare.with_listing", "llmstack.fetch.resolve"):
        monkeypatch.setattr(name, refuse)
    return asked


@pytest.mark.parametrize("words", [["up", "qwen3-1.7b"], ["up", "qwen3-1.7b", "--ctx", "8192"]])
def test_up_says_it_before_a_byte_and_repeats_the_command(
    words: list[str], downloads: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 3
    shown = capsys.readouterr().err
    assert "RTX 4070" in shown and "engine install" in shown and f"llmstack {' '.join(words)} --cpu" in shown
    assert downloads == []


def test_models_pull_says_it_too(downloads: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "pull", "qwen3-1.7b"]) == 3
    assert "models pull qwen3-1.7b --cpu" in capsys.readouterr().err
    assert downloads == []


def test_it_can_be_gone_on_with(downloads: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "qwen3-1.7b", "--cpu"]) == 1
    assert downloads != [], "then the model is fetched"


@pytest.mark.parametrize("words", [["plan", "qwen3-1.7b"], ["models", "list", "--names", "--json"], ["models", "list"]])
def test_plan_and_list_head_their_output_with_it_and_plan_for_the_processor(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    assert "RTX 4070 will not be used: the engine embedded is built without it" in capsys.readouterr().err
