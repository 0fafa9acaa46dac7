"""The health check of `up` on an engine whose prompt cache holds, does not, or was taken by somebody else once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import bad_engine
from support.stack import Stack


@pytest.fixture
def real(built_engine: Path) -> Path:
    return built_engine / "llama-server"


def test_an_engine_that_forgets_every_prompt_is_refused_by_up(stack_home: Stack, real: Path, tmp_path: Path) -> None:
    assert stack_home.run("engine", "use", str(bad_engine.install(tmp_path / "bad", "forgetful", real))).status == 0
    ran = stack_home.run(*stack_home.up_command())
    assert ran.status == 1
    assert "the prompt cache does not hold: 0 of" in ran.err


def test_a_client_that_takes_the_slot_during_the_check_does_not_make_up_fail(
    stack_home: Stack, real: Path, tmp_path: Path
) -> None:
    engine = bad_engine.install(tmp_path / "bad", "interrupted", real)
    assert stack_home.run("engine", "use", str(engine)).status == 0
    stack_home.up()
    assert stack_home.record()["health"]["hit_ratio"] > 0.9
