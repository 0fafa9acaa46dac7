"""./stack on a fresh checkout: any folder, any caller, two at once, interrupted, and on machines that lack something.

The checkout is a copy of this one whose lock file is cut to the one package that `--version` needs, so that each
case installs for real in seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.paths import ROOT

pytestmark = pytest.mark.timeout(900)  # each installs from the package index

BASE_PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"


def click_only(lock: str) -> str:
    entry = re.search(r"^click==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
    assert entry
    return entry[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "a folder with spaces" / "llmstack"
    place.mkdir(parents=True)
    for name in ("stack", "pyproject.toml"):
        shutil.copy2(ROOT / name, place / name)
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "lock", place / "lock")
    lock = place / "lock" / "runtime.txt"
    lock.write_text(click_only(lock.read_text()))
    return place


def environment(tmp_path: Path, path: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "http", "HTTP"))}
    return kept | {"HOME": str(tmp_path / "home"), "PATH": path or f"{BASE_PYTHON.parent}:/usr/bin:/bin"}


def run(command: list[str | Path], env: dict[str, str], cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=600)


def tools(tmp_path: Path, *names: str) -> Path:
    """A PATH folder that holds only these programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in names:
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def test_the_first_run_installs_and_the_next_does_not(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    first = run([checkout / "stack", "--version"], env)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("llmstack, version")
    assert "installing 1 locked packages" in first.stderr
    second = run([checkout / "stack", "--version"], env)
    assert (second.returncode, second.stderr) == (0, "")


def test_it_runs_through_a_symlink_and_from_any_folder(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "ls tack"
    link.parent.mkdir()
    link.symlink_to(os.path.relpath(checkout / "stack", link.parent))
    ran = run([f"./{link.name}", "--version"], environment(tmp_path), cwd=link.parent)
    assert ran.returncode == 0, ran.stderr
    assert (checkout / ".venv").is_dir()
    assert run(["sh", "stack", "--version"], environment(tmp_path), cwd=checkout).returncode == 0


def test_two_first_runs_at_once_install_once(checkout: Path, tmp_path: Path) -> None:
    command = [str(checkout / "stack"), "--version"]
    env = environment(tmp_path)
    both = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("installing 1 locked" in err for _, err in outputs) == 1


def test_an_interrupted_first_run_is_mended_by_the_next(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    first = subprocess.Popen(
        [str(checkout / "stack"), "--version"], env=env, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (checkout / ".venv" / "bin" / "python").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=30)
    assert not (checkout / ".venv" / ".made-runtime").exists()
    ran = run([checkout / "stack", "--version"], env)
    assert ran.returncode == 0, ran.stderr


def test_a_changed_lock_installs_again_and_a_moved_checkout_too(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert run([checkout / "stack", "--version"], env).returncode == 0
    lock = checkout / "lock" / "runtime.txt"
    lock.write_text(lock.read_text() + "# changed\n")
    assert "installing" in run([checkout / "stack", "--version"], env).stderr
    moved = checkout.rename(checkout.with_name("moved"))
    ran = run([moved / "stack", "--version"], env)
    assert ran.returncode == 0
    assert "installing" in ran.stderr
    where = run([moved / ".venv" / "bin" / "python", "-c", "import llmstack; print(llmstack.__file__)"], env)
    assert where.stdout.startswith(str(moved))


def test_a_wrong_hash_in_the_lock_is_refused(checkout: Path, tmp_path: Path) -> None:
    lock = checkout / "lock" / "runtime.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", lock.read_text()))
    ran = run([checkout / "stack", "--version"], environment(tmp_path))
    assert ran.returncode == 3
    assert "could not be installed" in ran.stderr
    assert not (checkout / ".venv" / ".made-runtime").exists()


def test_a_machine_without_python_is_told_what_to_install(checkout: Path, tmp_path: Path) -> None:
    folder = tools(tmp_path, "sh", "readlink", "cksum")
    ran = run([checkout / "stack", "up"], environment(tmp_path, str(folder)))
    assert ran.returncode == 3
    assert "llmstack needs Python 3.11 or newer" in ran.stderr
    assert "apt install python3.11 python3.11-venv" in ran.stderr


def test_a_python_that_is_too_old_is_named(checkout: Path, tmp_path: Path) -> None:
    folder = tools(tmp_path, "sh", "readlink", "cksum")
    old = folder / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1 ;; *) echo 3.9.2 ;; esac\n')
    old.chmod(0o755)
    ran = run([checkout / "stack", "up"], environment(tmp_path, str(folder)))
    assert ran.returncode == 3
    assert "python3 is 3.9.2" in ran.stderr


def test_a_python_without_venv_is_told_the_package(checkout: Path, tmp_path: Path) -> None:
    folder = tools(tmp_path, "sh", "readlink", "cksum")
    bare = folder / "python3"
    bare.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; *) exec {BASE_PYTHON} "$@" ;; esac\n')
    bare.chmod(0o755)
    ran = run([checkout / "stack", "up"], environment(tmp_path, str(folder)))
    assert ran.returncode == 3
    assert "venv and ensurepip modules are missing" in ran.stderr
    assert f"apt install python3.{sys.version_info.minor}-venv" in ran.stderr


def test_uv_is_used_where_it_is_there(checkout: Path, tmp_path: Path) -> None:
    folder = tools(tmp_path, "sh", "readlink", "cksum")
    (folder / "python3").symlink_to(BASE_PYTHON)
    uv = folder / "uv"
    calls = tmp_path / "calls"
    uv.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\nexec {sys.executable} -m uv "$@"\n')
    uv.chmod(0o755)
    ran = run([checkout / "stack", "--version"], environment(tmp_path, str(folder)))
    assert ran.returncode == 0, ran.stderr
    assert "--require-hashes" in calls.read_text()
