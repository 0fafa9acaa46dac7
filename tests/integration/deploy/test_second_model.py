"""`up` and a second model that cannot be had: the large one runs without it, unless it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.catalog.models import Drafter, Model
from llmstack.deploy.prepare import _with_pulled
from llmstack.errors import MissingPart
from llmstack.fetch.progress import quiet
from llmstack.paths import Home
from llmstack.plan import Goal

ENTRY = Model(repo="maker/large", file="a.gguf", drafter=Drafter("maker/small", "small.gguf", "qwen2", {}))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()


def test_without_a_network_the_large_model_runs_alone_and_says_so(home: Home) -> None:
    goal, warnings = _with_pulled(home, Goal(), ENTRY, "large", quiet)
    assert goal.draft is None
    assert len(warnings) == 1 and warnings[0].startswith("small.gguf will not guess ahead: ")


def test_one_that_was_asked_for_is_missed(home: Home) -> None:
    with pytest.raises(MissingPart):
        _with_pulled(home, Goal(pins={"spec-draft-model": "on"}), ENTRY, "large", quiet)
