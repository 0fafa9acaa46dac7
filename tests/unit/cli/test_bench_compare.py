"""`bench compare` and `bench history`: a regression is an exit status, a typing error another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmstack.bench.record import remember
from llmstack.cli.main import run
from llmstack.paths import home
from support.bench_runs import make_run


@pytest.fixture(autouse=True)
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path))
    remember(home(), make_run(1))
    remember(home(), make_run(2, factor=0.5, argv=("-t", "1")))


def test_a_regression_is_exit_status_1_with_the_flags_that_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "compare", "last~1", "last", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and found["changed"] == ["-t 2 → 1"]
    assert {row["name"] for row in found["rows"] if row["change"] == "worse"} >= {"prefill at 0", "decode at 0"}


def test_the_other_way_round_is_none() -> None:
    assert run(["bench", "compare", "last", "last~1"]) == 0


@pytest.mark.parametrize("words", [("compare", "last"), ("compare", "nope", "last"), ("history", "last")])
def test_a_run_that_is_not_there_is_a_usage_error(words: tuple[str, ...]) -> None:
    assert run(["bench", *words]) == 2


def test_history_lists_both_and_makes_a_report_of_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert run(["bench", "history", "--report", str(page)]) == 0
    assert "1120-180001" in capsys.readouterr().out
    assert "1120-180002" in page.read_text()
