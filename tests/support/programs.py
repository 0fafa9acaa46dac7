"""Programs of others that the tests install once per machine, into the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmstack-tests"


def installed(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled by `make(folder)` unless that was done before, in this very place.

    A folder that was cut short, copied or moved is made again: the programs of a virtual environment
    name the interpreter that they were installed for.
    """
    folder = cache() / name
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "made"
        if not made.exists() or made.read_text() != str(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.write_text(str(folder))
    return folder


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def debian_packages(programs: Sequence[str], packages: Sequence[str]) -> None:
    """Installs Debian packages, as root, where one of the programs or files is missing, and says so; else fails.

    One test process at a time: apt waits for nobody.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all(shutil.which(name) or Path(name).exists() for name in programs):
            return
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RuntimeError(f"these tests need {', '.join(programs)}: sudo {' '.join(command)}")
        print(f"installing {' '.join(packages)} with apt-get for the tests", file=sys.stderr)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update", "-q"], command):
            subprocess.run(step, check=True, capture_output=True, env=environment, timeout=900)


def npm_package(npm: str, package: str) -> Path:
    """The folder of this package's programs. package: with its version, as npm takes it."""
    name = package.replace("@", "-").replace("/", "-").strip("-")
    command = [npm, "install", "--no-fund", "--no-audit", package, "--prefix"]
    return installed(name, lambda folder: run([*command, str(folder)])) / "node_modules" / ".bin"


def python_program(package: str, python: Path, before: str) -> Path:
    """The folder of this package's programs, in an environment of its own. package: with its version, as pip takes it.

    python: the interpreter. before: a day; nothing newer is taken for what the package needs.
    """

    def make(folder: Path) -> None:
        uv = [sys.executable, "-m", "uv"]
        run([*uv, "venv", "-q", "--python", python, folder / "environment"])
        target = folder / "environment" / "bin" / "python"
        run([*uv, "pip", "install", "-q", "--exclude-newer", before, "--python", target, package])

    return installed(package.replace("==", "-"), make) / "environment" / "bin"


def python_from(minor: int) -> Path:
    """A Python 3 of this minor version or a newer one: on PATH, or one of pyenv's."""
    names = [f"python3.{number}" for number in range(minor, minor + 10)]
    if sys.version_info >= (3, minor):
        return Path(sys.executable)
    on_path = [Path(program) for name in names if (program := shutil.which(name))]
    roots = (Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions", Path(sys.base_prefix).parent)
    of_pyenv = [path for root in roots for name in names for path in sorted(root.glob(f"*/bin/{name}"))]
    # A shim of pyenv's on PATH may lead nowhere: one that runs is taken.
    for path in (*of_pyenv, *on_path):
        if subprocess.run([path, "-c", ""], capture_output=True, timeout=60).returncode == 0:
            return path
    raise AssertionError(f"these tests need Python 3.{minor} or newer: apt-get install python3.{minor}, or pyenv")


def run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stderr[-3000:]}"
