"""`llmstack engine` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmstack.cli.main import run
from llmstack.paths import Home


def test_list_use_and_rollback_agree_on_what_is_in_use(
    home: Home, program: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["engine", "list", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["engines"]
    assert only["name"] == "embedded" and only["in_use"] and only["build"] >= 11000
    binary = program(devices="  Vulkan0: Intel Arc (16000 MiB, 15000 MiB free)\\n")
    assert run(["engine", "use", str(binary), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["in_use"] is True
    assert run(["engine", "list"]) == 0
    printed = capsys.readouterr().out
    assert f"→ {binary}" in printed and "Vulkan0: Intel Arc  15,000 of 16,000 MiB free" in printed
    assert run(["engine", "rollback"]) == 0
    assert "in use: embedded" in capsys.readouterr().out
    assert run(["engine", "rollback", "--json"]) == 1


def test_a_refused_engine_is_shown_with_the_reason_and_cannot_be_used(
    home: Home, program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = program(version="version: 5000 (a)")
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    assert run(["engine", "list"]) == 0
    assert "not usable: build 5000 is older than 11393" in capsys.readouterr().out
    assert run(["engine", "use", str(binary)]) == 3


def test_a_build_that_cannot_start_says_why_with_status_3(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    assert run(["engine", "install", "--build", "--cpu", "--json"]) == 3
    captured = capsys.readouterr()
    assert "does not work" in json.loads(captured.out)["error"]
    assert "build-essential" in captured.err


def test_what_is_in_use_is_not_removed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["engine", "remove", "embedded", "--yes"]) == 2
    assert run(["engine", "remove", "b1-cpu", "--yes"]) == 2
    assert run(["engine", "remove", "../../x", "--yes"]) == 2
    capsys.readouterr()
