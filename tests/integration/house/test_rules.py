"""The rules of the house that other programs check: style, types, floors, and what is packed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.paths import ROOT
from support.planner import shapes
from support.planner.draws import machine

pytestmark = pytest.mark.timeout(900)  # mypy from nothing on a busy machine

BIN = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "command",
    [
        (BIN / "ruff", "check", "src", "tests", "benchmarks", "lock"),
        (BIN / "ruff", "format", "--check", "src", "tests", "benchmarks", "lock"),
        (BIN / "mypy",),
        (BIN / "lint-imports", "--no-cache"),
    ],
    ids=["ruff check", "ruff format", "mypy strict", "import floors"],
)
def test_the_tree_keeps_the_rules_of(command: tuple[str | Path, ...]) -> None:
    ran = run(*command)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def test_help_comes_quickly_and_pulls_in_no_server_and_no_client() -> None:
    script = (
        "import sys; from llmstack.cli.main import run; run(['--help']);"
        "heavy = {'fastapi', 'httpx', 'aiohttp', 'uvicorn', 'psutil', 'rich', 'jinja2', 'huggingface_hub'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    ran = run(sys.executable, "-c", script)
    assert ran.returncode == 0, ran.stderr
    assert "Commands:" in ran.stdout


LOOKS_AT_THIS_MACHINE = {
    *("asyncio", "ctypes", "http.client", "mmap", "socket", "subprocess"),
    *("httpx", "huggingface_hub", "jinja2", "psutil", "pynvml"),
    *("llmstack.detect.drivers", "llmstack.engine.find", "llmstack.fetch.transfer", "llmstack.stackfile"),
}


@pytest.mark.parametrize("named_by", ["catalog", "path"])
def test_a_plan_for_another_machine_loads_nothing_that_looks_at_this_one(tmp_path: Path, named_by: str) -> None:
    model, hardware = "qwen3-4b", tmp_path / "hardware.json"
    hardware.write_text(json.dumps(machine(12, 32).to_json()))
    loaded = LOOKS_AT_THIS_MACHINE
    if named_by == "path":
        model = str(shapes.qwen35moe_35b().write(tmp_path))
        loaded = loaded | {"tomllib", "llmstack.fetch.survey"}
    script = (
        "import sys; from llmstack.cli.main import run; code = run(sys.argv[2:]);"
        "early = sorted(set(sys.argv[1].split()) & set(sys.modules)); sys.exit(str(early) if early else code)"
    )
    env = {**os.environ, "LLMSTACK_HOME": str(tmp_path / "home")}
    argv = [sys.executable, "-c", script, " ".join(sorted(loaded)), "plan", model, "--hardware", str(hardware)]
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "fits: " in ran.stdout


def test_importing_the_package_pulls_in_neither_fastapi_nor_httpx() -> None:
    script = "import sys, llmstack; assert not {'fastapi', 'httpx', 'click'} & set(sys.modules)"
    assert run(sys.executable, "-c", script).returncode == 0


def test_the_wheel_carries_templates_and_catalog(tmp_path: Path) -> None:
    built = run(BIN / "uv", "build", "--wheel", "--out-dir", tmp_path, "--python", sys.executable)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "llmstack/models.toml" in names
    assert any(re.match(r"llmstack/templates/.+\.service\.j2", name) for name in names)
