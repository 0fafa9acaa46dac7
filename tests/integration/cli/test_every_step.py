"""A fault at steps of every command: a sample in every run, all of them with --long (docs/reliability.md)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.every_step.harness import Stage, serving, trials_of
from support.every_step.scenes import ELSEWHERE, READS, SCENES, Scene, registered
from support.paths import DOCS, ROOT

pytestmark = pytest.mark.timeout(7200)  # with --long, on a busy machine

SAMPLE, SERVICES_SAMPLE = 3, 2  # of the steps and outcomes of one scene


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving() as address:
        yield address


def named(scene: Scene) -> str:
    return scene.title


def test_every_command_is_here_by_being_registered() -> None:
    known = {scene.command for scene in SCENES} | READS | set(ELSEWHERE)
    assert sorted(set(registered()) - known) == [], "give it a scene in tests/support/every_step/scenes.py"
    assert sorted(known - set(registered())) == []
    page = (DOCS / "reliability.md").read_text()
    assert [scene.title for scene in SCENES if f"| `{scene.title}` |" not in page] == []
    files = {word for line in ELSEWHERE.values() for word in line.split() if word.startswith("tests/")}
    assert all((ROOT / file).exists() for file in files)


@pytest.mark.parametrize("scene", SCENES, ids=named)
def test_whatever_happens_at_a_step_the_next_run_ends_well(
    scene: Scene, tmp_path: Path, hub: str, pytestconfig: pytest.Config
) -> None:
    every = bool(pytestconfig.option.long)
    if scene.long and not every:
        return  # its steps take minutes each
    stage = Stage(scene, tmp_path / "stage", hub)
    try:
        assert stage.clean.status == 0, stage.clean.out + stage.clean.err
        trials = trials_of(stage)
        count = min(SERVICES_SAMPLE if scene.services else SAMPLE, len(trials))
        chosen = trials if every else random.Random(named(scene)).sample(trials, count)
        wrong = [trial for number, outcome in chosen if (trial := stage.trial(number, outcome)).wrong]
    finally:
        stage.close()
    assert not wrong, "\n".join(map(str, wrong))
