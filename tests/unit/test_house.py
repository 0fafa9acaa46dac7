"""The rules of the house, run on the whole tree: style, types, floors, sizes, and what is packed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "command",
    [
        (BIN / "ruff", "check", "src", "tests", "lock"),
        (BIN / "ruff", "format", "--check", "src", "tests", "lock"),
        (BIN / "mypy",),
        (BIN / "lint-imports", "--no-cache"),
    ],
    ids=["ruff check", "ruff format", "mypy strict", "import floors"],
)
def test_the_tree_keeps_the_rules_of(command: tuple[str | Path, ...]) -> None:
    ran = run(*command)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def test_no_source_file_outgrows_its_purpose() -> None:
    long = {str(path.relative_to(ROOT)): n for path in SOURCES if (n := len(path.read_text().splitlines())) > 450}
    assert not long


def test_nothing_is_called_utils() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "common")]


WORLD = {"os", "subprocess", "socket", "time", "asyncio", "threading", "pathlib", "psutil", "httpx", "aiohttp"}


def test_floor_0_imports_nothing_that_touches_the_world() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    pure = next(c["source_modules"] for c in contracts if c["type"] == "forbidden")
    allowed = {("llmstack.supervisor", "pathlib")}  # a type in its signatures
    found = []
    for name in pure:
        base = ROOT / "src" / Path(*name.split("."))
        for path in [base.with_suffix(".py"), *base.rglob("*.py")]:
            if not path.exists():
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                found += [
                    f"{path.relative_to(ROOT)} imports {top}"
                    for top in (n.split(".")[0] for n in names)
                    if top in WORLD and (name, top) not in allowed
                ]
    assert not found


def test_only_render_prints() -> None:
    printing = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "render" not in path.parts
        and path.name != "embedded.py"  # an engine's own command line speaks for itself
        and any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert not printing


def test_help_comes_quickly_and_pulls_in_no_server_and_no_client() -> None:
    script = (
        "import sys; from llmstack.cli.main import run; run(['--help']);"
        "heavy = {'fastapi', 'httpx', 'aiohttp', 'uvicorn', 'psutil', 'rich', 'jinja2', 'huggingface_hub'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    ran = run(sys.executable, "-c", script)
    assert ran.returncode == 0, ran.stderr
    assert "Commands:" in ran.stdout


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


def test_the_lock_pins_every_package_with_a_hash() -> None:
    for lock in (ROOT / "lock").glob("*.txt"):
        lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
        entries = re.split(r"\n(?=\S)", "\n".join(lines).strip())
        loose = [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
        assert not loose, lock.name


def test_nothing_is_left_half_done() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [str(path.relative_to(ROOT)) for path in SOURCES if marks.search(path.read_text())]
    assert not found
