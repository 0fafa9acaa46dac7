"""An update under a running stack: what runs the old files is said, with the command that ends it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.started_from import read_note
from support.paths import ROOT
from support.stack import Stack


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This program, to be changed."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copy(ROOT / "models.toml", folder)
    return folder / "src"


def test_files_that_were_replaced_under_a_running_stack_are_said_until_it_is_restarted(
    stack_home: Stack, demo_model: Path, checkout: Path
) -> None:
    """Under our own supervisor, whose services get this environment: a unit would run the installed package."""
    variables = (("PYTHONPATH", str(checkout)), ("LLMSTACK_SUPERVISOR", "process"))
    stack = replace(stack_home.with_model(demo_model), variables=variables)
    stack.up("--ctx", "8192")
    seen = stack.run("status", "--json").json
    assert seen["outdated"] == [] and read_note(stack.root / "state", "server") is not None
    proxy, screen = (checkout / "llmstack" / name for name in ("proxy/gate.py", "render/bench.py"))
    screen.write_text(screen.read_text() + "\n# new\n")
    assert stack.run("status", "--json").json["outdated"] == [], "no service runs that file"
    proxy.write_text(proxy.read_text() + "\n# new\n")
    [old] = stack.run("status", "--json").json["outdated"]
    assert old["service"] == "proxy" and old["next"].endswith("restart proxy")
    shown = stack.run("status").out
    assert "files that have changed since" in shown and "restart proxy" in shown
    checks = stack.run("doctor", "--json").json["checks"]
    assert [check["status"] for check in checks if check["name"] == "update"] == ["warn"]
    stack.do("restart", "proxy")
    after = stack.run("status", "--json").json
    assert after["outdated"] == []
    assert after["services"]["server"]["pid"] == seen["services"]["server"]["pid"], "the model stayed in memory"
