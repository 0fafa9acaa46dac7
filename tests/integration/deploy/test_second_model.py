"""`up` and a second model that cannot be had: the large one runs without it, unless it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.catalog.models import Drafter, Model
from llmstack.deploy.planning import Subject
from llmstack.deploy.prepare import pull_drafter
from llmstack.errors import MissingPart
from llmstack.fetch.model import ResolvedModel
from llmstack.paths import Home
from llmstack.plan import Goal

ENTRY = Model(repo="maker/large", file="a.gguf", drafter=Drafter("maker/small", "small.gguf", "qwen2", {}))
LARGE = Subject("large", ResolvedModel("large", None, ENTRY))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()


def test_without_a_network_the_large_model_runs_alone_and_says_so(home: Home) -> None:
    assert pull_drafter(home, Goal(), LARGE).startswith("small.gguf will not guess ahead: ")


def test_one_that_was_asked_for_is_missed(home: Home) -> None:
    with pytest.raises(MissingPart):
        pull_drafter(home, Goal(pins={"spec-draft-model": "on"}), LARGE)
