"""A home of one's own and a hub on loopback for every pull test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack.paths import Home
from support.hub import HubServer, hub_server
from support.model_bytes import model_bytes

FOREIGN = (
    *("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE"),
    *("LLMSTACK_OFFLINE", "LLAMA_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"),
)  # settings of the shell that runs the tests, which count in the product


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "user" / "hf"))
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "home"))
    base = tmp_path / "home"
    return Home(base / "config", base / "state", base / "data", base / "cache").make()


@pytest.fixture
def hub(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {
        "Tiny-Q4_K_M.gguf": model_bytes(300_000, 1),
        "Tiny-Q8_0.gguf": model_bytes(200_000, 2),
        "split/Tiny-BF16-00001-of-00002.gguf": model_bytes(120_000, 3, shard=(0, 2)),
        "split/Tiny-BF16-00002-of-00002.gguf": model_bytes(90_000, 4, shard=(1, 2)),
        "mmproj-F16.gguf": model_bytes(50_000, 5),
        "README.md": b"text",
    }
    with hub_server(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
