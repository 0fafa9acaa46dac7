"""A header read from the server before any download."""

from __future__ import annotations

import pytest

from llmstack.errors import MissingPart
from llmstack.fetch import locate
from llmstack.fetch.remote import remote_header
from llmstack.gguf import GgufError
from llmstack.paths import Home
from support.hub import HubServer


@pytest.mark.parametrize("text", ["hf:maker/tiny/Tiny-Q4_K_M.gguf", "maker/tiny:Q4_K_M"])
def test_a_model_is_planned_from_its_server_without_a_download(home: Home, hub: HubServer, text: str) -> None:
    model, header = remote_header(locate(home, text))
    assert header.arch == "qwen3"
    assert header.file_bytes == len(hub.files["Tiny-Q4_K_M.gguf"])
    assert model.sources[0].file == "Tiny-Q4_K_M.gguf"
    assert not list(home.models.rglob("*.gguf"))


def test_a_split_model_is_read_whole(home: Home, hub: HubServer) -> None:
    _, header = remote_header(locate(home, "hf:maker/tiny/split/Tiny-BF16-00001-of-00002.gguf"))
    assert [tensor.name for tensor in header.tensors] == ["t0.weight", "t1.weight"]


def test_a_plain_url_is_asked_for_its_size(home: Home, hub: HubServer) -> None:
    _, header = remote_header(locate(home, f"{hub.url}/plain/Tiny-Q4_K_M.gguf"))
    assert header.file_bytes == len(hub.files["Tiny-Q4_K_M.gguf"])


def test_a_server_without_ranges_is_not_read_whole(home: Home, hub: HubServer) -> None:
    hub.faults.ignore_range = True
    with pytest.raises(MissingPart, match="cannot be read in parts"):
        remote_header(locate(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf"))


def test_what_is_no_model_is_said_before_a_download(home: Home, hub: HubServer) -> None:
    hub.files["Tiny-Q4_K_M.gguf"] = b"<html>" + bytes(5000)
    with pytest.raises(GgufError, match="a web page"):
        remote_header(locate(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf"))


def test_offline_reads_nothing(home: Home, hub: HubServer) -> None:
    with pytest.raises(MissingPart, match="offline mode"):
        remote_header(locate(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf"), offline=True)
    assert hub.requests == []
