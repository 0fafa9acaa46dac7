"""An engine for a measurement starts where no file of the user's can stand in for a module of Python's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmstack.bench import scratch
from llmstack.engine import embedded
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.paths import Home

ENGINE = Engine("e", EngineKind.EMBEDDED, EngineOrigin.EMBEDDED, ("/opt/python",), flags=None, backends=("cpu",))


class Started(Exception):
    pass


def test_the_engine_starts_in_the_root_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def start(argv: list[str], **settings: Any) -> None:
        folders.append(settings["cwd"])
        raise Started

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(scratch, "free_port", lambda: 1)
    monkeypatch.setattr(scratch, "fit", lambda argv, flags, engine: type("Fitted", (), {"argv": argv}))
    monkeypatch.setattr(scratch, "parse_help", lambda text: {})
    monkeypatch.setattr(embedded, "help_text", lambda: "")
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache")))
    with pytest.raises(Started), scratch.scratch(home, ENGINE, ()):
        pass
    assert folders == ["/"]
