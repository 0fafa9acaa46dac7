"""`models list` and a pull's line fit a terminal of 80 columns, and say the same on a wide one."""

from __future__ import annotations

import sys

import pytest

from llmstack.catalog.models import Model
from llmstack.fetch.progress import Stage, TransferProgress
from llmstack.fetch.survey import SurveyRow
from llmstack.render import models
from llmstack.render.models import PullProgress, show_list
from llmstack.render.output import StepProgress, clip

NAME = "Qwen3-Coder-30B-A3B-Instruct-UD-Q4_K_XL-00001-of-00003.gguf"
GIB = 1 << 30


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("name", ["a.gguf", NAME])
@pytest.mark.parametrize("stage", [Stage.DOWNLOADING, Stage.CHECKING])
def test_the_line_of_a_pull_is_never_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, name: str, stage: Stage
) -> None:
    monkeypatch.setattr(models, "columns", lambda stream: width)
    bar = PullProgress()
    bar(TransferProgress(stage, name, 0, 17 * GIB))
    bar._began -= 60
    line = bar._line(TransferProgress(stage, name, 5 * GIB, 17 * GIB), bar._began + 60)
    assert len(line) < width
    assert "29%  5.0 GiB of 17.0 GiB  89 MB/s  2:24 left" in line
    assert line.startswith(name[:4]) and "gguf" in line


def test_what_is_too_long_loses_its_middle() -> None:
    assert clip("0123456789", 7) == "012…789"
    assert clip("0123456789", 10) == "0123456789"


@pytest.mark.parametrize("here", [{}, {"qwen2.5-coder-14b": "Q4_K_M (Hugging Face cache)"}])
def test_the_list_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: dict[str, str]
) -> None:
    rows = [
        SurveyRow("qwen2.5-coder-14b", "UD-IQ3_XXS", True, 112 * GIB, 65536, 1234.0, 12345.0),
        SurveyRow(
            "gpt-oss-120b", "UD-Q4_K_XL", False, 58 * GIB, reason="x; all of it in RAM needs 61605 MiB of 26624 MiB"
        ),
    ]
    monkeypatch.setattr(models, "columns", lambda stream: 80)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    show_list(rows, {row.name: Model() for row in rows}, here, "this processor")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("yes") for line in lines) == bool(here)
    assert "61605" in " ".join(lines)


def test_successors_terms_and_what_is_not_planned_fit_80_columns_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        SurveyRow("qwen3.8-flash-next", "UD-Q4_K_XL", False, 104 * GIB, reason="unread", planned=False),
        SurveyRow("nemotron-3-nano-xx", "UD-Q4_K_XL", True, 21 * GIB, 65536, 29.0, 1353.0),
        SurveyRow("qwen3-1.7b", "Q8_0", True, 2 * GIB, 40960, 9.0, 3195.0),
    ]
    entries = {
        "qwen3.8-flash-next": Model(quality=1, license="qwen-community-1.0"),
        "nemotron-3-nano-xx": Model(quality=2, license="nvidia", superseded_by="qwen3-1.7b"),
        "qwen3-1.7b": Model(quality=3, license="mit"),
    }
    monkeypatch.setattr(models, "columns", lambda stream: 80)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    show_list(rows, entries, {"nemotron-3-nano-xx": "UD-Q4_K_XL (Hugging Face cache)"}, "this processor")
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if len(line) > 80] == []
    assert printed.index("qwen3-1.7b") < printed.index(" old *nemotron-3-nano-xx") < printed.index(" 1 *qwen3.8-flash")
    assert "models show MODEL" in printed and "superseded; nemotron-3-nano-xx by qwen3-1.7b" in printed


def test_terms_are_a_line_of_their_own_in_a_pull_and_in_an_up(capsys: pytest.CaptureFixture[str]) -> None:
    terms = TransferProgress(Stage.TERMS, "m", note="m comes under gemma")
    for report in (PullProgress(), StepProgress().download):
        report(terms)
        report(TransferProgress(Stage.DOWNLOADING, "m.gguf", 0, GIB))
        captured = capsys.readouterr()
        assert captured.err.splitlines()[0] == "warning: m comes under gemma"
        assert captured.out == "" and len(captured.err.splitlines()) == 2
