"""A search from the terminal, by a command that is really run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmstack.cli.main import run


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = run(["web-search", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_search_from_the_terminal_shows_what_was_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "home"))
    program = tmp_path / "search"
    program.write_text(
        '#!/bin/sh\nprintf \'[{"title": "About %s", "url": "https://a.example/", "snippet": "S"}]\' "$1"\n'
    )
    program.chmod(0o755)
    call(capsys, "use", "command", "--", str(program))
    run(["status", "--json"])
    assert json.loads(capsys.readouterr().out)["web"] == {"search": "command", "fetch": False}
    status, out, _ = call(capsys, "test", "big llamas", "--json")
    [hit] = json.loads(out)["results"]
    assert status == 0 and (hit["title"], hit["url"]) == ("About big llamas", "https://a.example/")
    _, out, _ = call(capsys, "test", "x")
    assert "1. About x" in out and "https://a.example/" in out
    program.write_text("#!/bin/sh\nexit 7\n")
    status, _, err = call(capsys, "test", "x")
    assert status == 1 and "status 7" in err and "web-search show" in err
