"""A file or a folder of this machine, however it is written, is what is meant; opening it says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.detect.model_file import open_model
from llmstack.errors import BadInput
from llmstack.fetch.find_local import locate
from llmstack.gguf import GgufError
from llmstack.paths import Home
from support.model_bytes import model_bytes


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights/ggml-base.bin", "plain"])
def test_a_file_that_is_here_is_meant_though_its_name_looks_like_another_thing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PK\x03\x04" + bytes(60))
    model = locate(home, name)
    assert model.path == path
    with pytest.raises(GgufError, match="a zip archive"):
        open_model(path)


def test_the_models_of_a_folder_are_listed(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(model_bytes(1000))
    (tmp_path / "b.gguf").write_bytes(model_bytes(1000))
    with pytest.raises(BadInput, match="is a folder") as refused:
        locate(home, str(tmp_path))
    assert "a.gguf (0.00 GiB), b.gguf (0.00 GiB)" in refused.value.why and "FILE.gguf" in refused.value.next
