"""Which image encoder a model gets, from the files beside it and from what the catalog and the user name."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.catalog.models import Model
from llmstack.deploy.projector import USUAL_BYTES, beside, with_projector
from llmstack.errors import BadInput
from llmstack.fetch.model import ResolvedModel, Source
from llmstack.gguf import GgufError
from llmstack.paths import Home
from llmstack.plan import Goal, ModelFacts
from support.planner.draws import facts
from support.projectors import small, write_projector

TEXT: ModelFacts = facts("llama-8b")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(*(tmp_path / name for name in ("config", "state", "data", "cache")))


def folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return tmp_path / names[0]


def names(tmp_path: Path, *files: str) -> list[str]:
    return [path.name for path in beside(folder(tmp_path, *files))]


def test_f16_comes_before_other_types(tmp_path: Path) -> None:
    files = ("m-Q4_K_M.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf", "mmproj-F16.gguf", "mmproj-Q8_0.gguf")
    assert names(tmp_path, *files) == ["mmproj-F16.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf", "mmproj-Q8_0.gguf"]


def test_among_several_models_only_one_named_for_this_model_is_taken(tmp_path: Path) -> None:
    files = ("gemma-3-4b-it-Q4_0.gguf", "qwen-vl-Q4_0.gguf", "mmproj-qwen-vl-f16.gguf", "gemma-3-4b-it-mmproj-f16.gguf")
    assert names(tmp_path, *files) == ["gemma-3-4b-it-mmproj-f16.gguf"]


def test_among_several_models_one_without_a_name_is_nobodys(tmp_path: Path) -> None:
    assert names(tmp_path, "a-Q4_0.gguf", "b-Q4_0.gguf", "mmproj-F16.gguf") == []


def test_two_sizes_and_the_shards_of_one_model_are_one_model(tmp_path: Path) -> None:
    files = ("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf", "mmproj-model-f16.gguf")
    assert names(tmp_path, *files) == ["mmproj-model-f16.gguf"]


def test_the_file_beside_the_model_is_taken_when_its_width_is_the_models(home: Home, tmp_path: Path) -> None:
    model = folder(tmp_path, "m-Q4_0.gguf")
    path = write_projector(small(text=TEXT.n_embd), tmp_path / "mmproj-F16.gguf")
    goal, passed_over = with_projector(home, Goal(), ResolvedModel("m", model), TEXT)
    assert goal.mmproj_path == str(path) and goal.projector is not None and not passed_over
    assert goal.projector.output == TEXT.n_embd


def test_another_models_encoder_is_passed_over_with_a_sentence(home: Home, tmp_path: Path) -> None:
    model = folder(tmp_path, "m-Q4_0.gguf")
    write_projector(small(text=128), tmp_path / "mmproj-F16.gguf")
    goal, passed_over = with_projector(home, Goal(), ResolvedModel("m", model), TEXT)
    assert goal.projector is None and goal.mmproj_path == ""
    assert "mmproj-F16.gguf is another model's image encoder: it hands over 128 values" in passed_over[0]


def test_images_that_were_asked_for_in_vain_are_an_error(home: Home, tmp_path: Path) -> None:
    model = folder(tmp_path, "m-Q4_0.gguf")
    with pytest.raises(BadInput, match="no image encoder is known") as refused:
        with_projector(home, Goal(vision=True), ResolvedModel("m", model), TEXT)
    assert "--mmproj FILE" in refused.value.next


def test_a_file_that_was_named_must_be_one_for_this_model(home: Home, tmp_path: Path) -> None:
    files = ResolvedModel("m", folder(tmp_path, "m-Q4_0.gguf"))
    other = write_projector(small(text=128), tmp_path / "other.gguf")
    with pytest.raises(BadInput, match="another model's image encoder"):
        with_projector(home, Goal(vision=True, mmproj_path=str(other)), files, TEXT)
    with pytest.raises(GgufError):
        with_projector(home, Goal(vision=True, mmproj_path=str(files.path)), files, TEXT)
    right = write_projector(small(text=TEXT.n_embd), tmp_path / "right.gguf")
    goal, _ = with_projector(home, Goal(vision=True, mmproj_path=str(right)), files, TEXT)
    assert goal.mmproj_path == str(right)


def test_the_catalogs_encoder_that_is_not_here_is_planned_by_its_size(home: Home) -> None:
    source = Source("mmproj-F16.gguf", "o/r", "mmproj-F16.gguf", size=700 << 20)
    files = ResolvedModel("m", None, Model(repo="o/r"), projector=source)
    goal, _ = with_projector(home, Goal(), files, TEXT)
    assert goal.projector is not None and goal.projector.weights == 700 << 20 and not goal.projector.known
    assert goal.mmproj_path == str(home.models / "o/r/mmproj-F16.gguf")
    unsized = ResolvedModel("m", None, Model(repo="o/r"), projector=Source("mmproj-F16.gguf", "o/r", "mmproj-F16.gguf"))
    again, _ = with_projector(home, Goal(), unsized, TEXT)
    assert again.projector is not None and again.projector.weights == USUAL_BYTES


def test_offline_an_encoder_that_is_not_here_is_left_out(home: Home) -> None:
    files = ResolvedModel("m", None, Model(repo="o/r"), projector=Source("mmproj-F16.gguf", "o/r", "mmproj-F16.gguf"))
    assert with_projector(home, Goal(), files, TEXT, offline=True)[0].projector is None
