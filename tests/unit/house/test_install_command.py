"""The `llmstack` command of a checkout's venv, as lock/install.py writes it."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

INSTALL = Path(__file__).parents[3] / "lock" / "install.py"


def test_it_imports_nothing_out_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("install", INSTALL)
    assert spec is not None and spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=str(tmp_path)))
    (tmp_path / "bin").mkdir()
    install.sources(tmp_path, Path("/python"), Path("/src"))
    assert (tmp_path / "bin" / "llmstack").read_text().endswith('exec "/python" -P -m llmstack "$@"\n')
