"""Stand-in llama-server programs: shell scripts that answer --version, --help and --list-devices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmstack.engine import cuda_toolkit
from llmstack.paths import Home
from support.help_texts import MODERN


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    base = tmp_path / "home"
    monkeypatch.setenv("LLMSTACK_HOME", str(base))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return Home(base / "config", base / "state", base / "data", base / "cache").make()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Writes a stand-in; every call of it is counted in `calls` beside it."""

    def write(
        name: str = "llama-server",
        version: str = "version: 12000 (abcdef0)",
        help_text: str = MODERN,
        devices: str = "",
        status: int = 0,
        folder: str = "bin",
    ) -> Path:
        where = tmp_path / folder
        where.mkdir(parents=True, exist_ok=True)
        (where / "help.txt").write_text(help_text)
        path = where / name
        path.write_text(
            f"""#!/bin/sh
echo "$1" >> {where}/calls
case "$1" in
--version) echo "{version}" >&2; exit {status};;
--help) cat {where}/help.txt; exit {status};;
--list-devices) printf 'Available devices:\\n{devices}'; exit 0;;
esac
"""
        )
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with the real C++ compiler and what a test puts beside it, and no nvcc or card of this machine."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("c++", "g++", "as", "ld", "sh", "cat", "echo"):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(cuda_toolkit, "_usual_nvcc", lambda: None)
    for name in ("CUDACXX", "CUDAARCHS", "CUDAHOSTCXX", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return folder
