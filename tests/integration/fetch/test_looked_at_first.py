"""A stranger's file is looked at in parts before it is downloaded."""

from __future__ import annotations

import pytest

from llmstack.deploy.prepare import _checked
from llmstack.errors import NotSo
from llmstack.fetch.find_local import locate
from llmstack.gguf import GgmlType, GgufError
from llmstack.gguf.writer import Tensor, header
from llmstack.paths import Home
from support.hub import HubServer
from support.model_bytes import model_bytes


def bert(size: int) -> bytes:
    data, total = header({"general.architecture": "nomic-bert"}, [Tensor("t", (64, size // 256), GgmlType.F32)])
    return data + bytes(total - len(data))


def test_a_file_that_is_no_model_is_named_before_it_is_downloaded(home: Home, hub: HubServer) -> None:
    hub.files["nomic-Q8_0.gguf"] = bert(4_000_000)
    with pytest.raises(GgufError, match="an embedding model"):
        _checked(home, locate(home, "hf:maker/tiny/nomic-Q8_0.gguf"), offline=False)
    assert not list(home.models.rglob("nomic*"))


def test_several_models_of_a_repository_are_listed_by_plan_and_up_alike(home: Home, hub: HubServer) -> None:
    hub.files["Other-Q4_K_M.gguf"] = model_bytes(100_000, 9)
    with pytest.raises(NotSo, match="holds 2 models") as refused:
        _checked(home, locate(home, "hf:maker/tiny"), offline=False)
    assert "Other-Q4_K_M.gguf (" in refused.value.why and "Tiny-Q4_K_M.gguf (" in refused.value.why


def test_a_server_without_parts_is_no_reason_to_refuse(home: Home, hub: HubServer) -> None:
    hub.faults.ignore_range = True
    model = locate(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf")
    assert _checked(home, model, offline=False) == model
