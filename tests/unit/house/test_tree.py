"""The rules of the house that can be read off the tree: sizes, names, floors, the lock."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from support.paths import LOCK, ROOT, SOURCES

FILES = sorted(SOURCES.rglob("*.py"))


def test_no_source_file_outgrows_its_purpose() -> None:
    long = {str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > 450}
    assert not long


def test_no_file_of_the_proxy_is_longer_than_350_lines() -> None:
    files = sorted((ROOT / "src" / "llmstack" / "proxy").glob("*.py"))
    assert not {path.name: n for path in files if (n := len(path.read_text().splitlines())) > 350}


def test_nothing_is_called_utils() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common")]


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
        for path in FILES
        if "render" not in path.parts
        and path.name != "embedded.py"  # an engine's own command line speaks for itself
        and any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert not printing


def test_the_lock_pins_every_package_with_a_hash() -> None:
    for lock in LOCK.glob("*.txt"):
        lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
        entries = re.split(r"\n(?=\S)", "\n".join(lines).strip())
        loose = [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
        assert not loose, lock.name


def test_nothing_is_left_half_done() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [str(path.relative_to(ROOT)) for path in FILES if marks.search(path.read_text())]
    assert not found
