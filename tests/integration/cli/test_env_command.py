"""`env` and `env --off` as a program reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmstack.cli.main import run
from llmstack.client.shell_change import BEFORE, CHANGED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))


def test_off_is_one_object_of_what_is_unset_and_what_comes_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CHANGED, "ANTHROPIC_API_KEY,ANTHROPIC_BASE_URL")
    monkeypatch.setenv(f"{BEFORE}ANTHROPIC_API_KEY", "mine")
    assert run(["env", "--off", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["set"] == {"ANTHROPIC_API_KEY": "mine"}
    assert {"ANTHROPIC_BASE_URL", CHANGED} < set(answer["unset"])


def test_a_shell_that_was_led_nowhere_keeps_its_own_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_MODEL", "my own")
    assert run(["env", "--profile", "bedrock"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'export {BEFORE}ANTHROPIC_MODEL="$ANTHROPIC_MODEL"' in lines
    assert "my own" not in "".join(lines)
