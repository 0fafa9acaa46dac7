"""Only the last run of a service explains its death, and only a proven stack lets go of older demo models."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack import paths
from llmstack.deploy import transaction
from llmstack.deploy.demo_model import prune_demo_models
from llmstack.deploy.status import _since_last_start


@pytest.mark.parametrize(
    "first",
    [
        "0.00.001.992 I srv          init: initializing ...",
        "0.00.001.992 I srv  llama_server: initializing ...",
        '{"event":"start","url":"http://127.0.0.1:5000","routes":1}',
    ],
)
def test_errors_of_an_earlier_run_are_left_out(first: str) -> None:
    assert _since_last_start(["cudaMalloc failed: out of memory", first, "couldn't bind"]) == [first, "couldn't bind"]


def test_a_log_without_a_start_is_taken_whole() -> None:
    assert _since_last_start(["Traceback", "ImportError: x"]) == ["Traceback", "ImportError: x"]


@pytest.fixture
def home(tmp_path: Path) -> paths.Home:
    return paths.Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()


def test_older_demo_models_go_when_a_newer_one_serves(home: paths.Home) -> None:
    for name in ("demo-old.gguf", "demo-new.gguf", "mine.gguf"):
        (home.models / name).touch()
    prune_demo_models(home, home.models / "mine.gguf")
    assert len(list(home.models.iterdir())) == 3
    prune_demo_models(home, home.models / "demo-new.gguf")
    assert sorted(path.name for path in home.models.iterdir()) == ["demo-new.gguf", "mine.gguf"]


def test_an_up_that_was_killed_is_known_and_its_leftovers_are_swept(home: paths.Home) -> None:
    assert not transaction.interrupted(home)
    (home.state / ".stack.json.999999999").write_text("half")
    first = transaction.begin(home)
    assert (first.stack, first.ran) == (None, False)
    assert transaction.interrupted(home)
    assert transaction.pending(home) == transaction.begin(home) == first
    assert [path.name for path in home.state.glob(".*")] == []
    transaction.end(home)
    assert not transaction.interrupted(home)
