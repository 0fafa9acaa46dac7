"""`up` and an image encoder that cannot be had: the model runs without, unless images were asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.catalog.models import Model
from llmstack.deploy.planning import Planned, Subject
from llmstack.deploy.prepare import pull_projector
from llmstack.errors import MissingPart
from llmstack.fetch.model import ResolvedModel, Source
from llmstack.paths import Home
from llmstack.plan import Goal, make_plan, projector_of_size
from support.planner.draws import facts, machine

SOURCE = Source("mmproj-F16.gguf", "maker/large", "mmproj-F16.gguf")
ENCODER = projector_of_size(900 << 20, facts("llama-8b").n_embd, "/nowhere/mmproj-F16.gguf")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()


def planned(goal: Goal) -> Planned:
    goal = replace(goal, mmproj_path=ENCODER.path, projector=ENCODER)
    files = ResolvedModel("large", None, Model(repo="maker/large", file="a.gguf"), projector=SOURCE)
    plan = make_plan(facts("llama-8b"), machine(24, 64), goal)
    return Planned(plan, Subject("large", files), None, None, machine(24, 64), "")


def test_without_a_network_the_model_runs_without_images_and_says_so(home: Home) -> None:
    assert pull_projector(home, planned(Goal())).startswith("large will not read images: ")


def test_images_that_were_asked_for_are_missed(home: Home) -> None:
    with pytest.raises(MissingPart):
        pull_projector(home, planned(Goal(vision=True)))
