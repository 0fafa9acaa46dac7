"""The image encoder of a repository: known by its header before a download, brought by its own pull, never unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.deploy.projector import with_projector
from llmstack.fetch.find_local import locate
from llmstack.fetch.pull import pull, pull_file, resolve
from llmstack.fetch.remote import remote_header
from llmstack.paths import Home
from llmstack.plan import Goal, read_facts
from support.hub import HubServer, hub_server
from support.models import write_model
from support.projectors import small, write_projector

REPO = "maker/tiny"


@pytest.fixture
def seeing(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    model, encoder = write_model("dense", tmp_path / "m"), write_projector(small(), tmp_path / "e")
    files = {
        "Tiny-Q4_K_M.gguf": model.read_bytes(),
        "mmproj-BF16.gguf": write_projector(small(), tmp_path / "b", seed=2).read_bytes(),
        "mmproj-F16.gguf": encoder.read_bytes(),
    }
    with hub_server(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.mark.parametrize("name", [f"hf:{REPO}", f"hf:{REPO}:Q4_K_M", f"hf:{REPO}/Tiny-Q4_K_M.gguf"])
def test_it_is_planned_by_its_header_before_anything_is_downloaded(home: Home, seeing: HubServer, name: str) -> None:
    files, header = remote_header(locate(home, name))
    goal, passed_over = with_projector(home, Goal(), files, read_facts(header))
    assert goal.projector is not None and goal.projector.known and not passed_over
    assert goal.mmproj_path == str(home.models / REPO / "mmproj-F16.gguf"), "F16 before BF16"
    assert not (home.models / REPO).exists()


def test_what_the_plan_takes_is_pulled_and_then_lies_beside_the_model(home: Home, seeing: HubServer) -> None:
    files, header = remote_header(locate(home, f"hf:{REPO}"))
    assert files.projector is not None
    pull(home, files, projector=False)
    assert not (home.models / REPO / "mmproj-F16.gguf").exists()
    path = pull_file(home, files.projector, "tiny")
    assert path.read_bytes() == seeing.files["mmproj-F16.gguf"]
    again = locate(home, f"hf:{REPO}")
    goal, _ = with_projector(home, Goal(), replace(again, projector=None), read_facts(header))
    assert goal.mmproj_path == str(path)


def test_a_repository_is_pulled_with_it_and_a_file_that_was_named_alone(home: Home, seeing: HubServer) -> None:
    alone = resolve(home, f"hf:{REPO}/Tiny-Q4_K_M.gguf")
    assert alone.mmproj is None and not (home.models / REPO / "mmproj-F16.gguf").exists()
    (home.models / REPO / "Tiny-Q4_K_M.gguf").unlink()
    whole = resolve(home, f"hf:{REPO}")
    assert whole.mmproj == home.models / REPO / "mmproj-F16.gguf" and whole.mmproj.is_file()
