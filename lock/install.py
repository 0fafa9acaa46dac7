"""Called by ./stack: makes .venv from a lock file. Standard library only, Python >= 3.11.

    python lock/install.py CHECKOUT LOCK_FILE

Two at once: the second waits for the first and finds the work done. Killed half-way: the next run starts from what
is there, or from nothing when the venv itself is broken. A stamp, .venv/.made-NAME, is written
last; it holds the checkout's place and the lock's checksum, which ./stack compares.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(here: Path, lock: Path) -> int:
    venv = here / ".venv"
    with (here / ".venv.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("llmstack: another run is installing; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        if is_stamped(venv, here, lock):
            return 0
        print(f"llmstack: installing {packages(lock)} locked packages into {venv} (first use, or the lock changed)")
        uv = shutil.which("uv")
        if not usable(venv, here, uv):
            shutil.rmtree(venv, ignore_errors=True)
            make(venv, uv)
        python = venv / "bin" / "python"
        if uv:
            command = [uv, "pip", "install", "--quiet", "--python", str(python)]
        else:
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        # --no-deps: the lock names every package, so nothing is resolved. Resolving, pip before 23.1 refuses a package
        # that another one wants with an extra (`uvicorn[standard]`), for the lock pins it without.
        done = subprocess.run([*command, "--no-deps", "--require-hashes", "-r", str(lock)], check=False)
        if done.returncode != 0:
            print("error: the packages could not be installed (see above)", file=sys.stderr)
            print(" next: check the network or the package index, then run the same command again", file=sys.stderr)
            return 3
        sources(venv, python, here / "src")
        # The lock for tests holds all of the one for running, at the same versions.
        for satisfied in {lock, lock.with_name("runtime.txt")}:
            stamp_of(venv, satisfied).write_text(stamp_text(here, satisfied))
    return 0


def stamp_of(venv: Path, lock: Path) -> Path:
    return venv / f".made-{lock.stem}"


def stamp_text(here: Path, lock: Path) -> str:
    return f"{here}\n{cksum(lock)}\n"


def is_stamped(venv: Path, here: Path, lock: Path) -> bool:
    stamp = stamp_of(venv, lock)
    return stamp.exists() and stamp.read_text() == stamp_text(here, lock) and (venv / "bin" / "python").exists()


def usable(venv: Path, here: Path, uv: str | None) -> bool:
    """The venv was made here, its Python starts, and there is something to install with."""
    origin = venv / ".origin"
    if not origin.exists() or origin.read_text() != str(here):
        return False
    proof = "" if uv else "import pip"
    return subprocess.run([venv / "bin" / "python", "-c", proof], capture_output=True, check=False).returncode == 0


def make(venv: Path, uv: str | None) -> None:
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (venv / ".origin").write_text(str(venv.parent))


def sources(venv: Path, python: Path, src: Path) -> None:
    """Puts this checkout on the venv's path (a .pth line), and an `llmstack` command beside its Python."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    (Path(found.stdout.strip()) / "llmstack.pth").write_text(f"{src}\n")
    command = venv / "bin" / "llmstack"
    # -P: `python -m` would import what lies in the current folder, a types.py of any project.
    command.write_text(f'#!/bin/sh\nexec "{python}" -P -m llmstack "$@"\n')
    command.chmod(0o755)


def cksum(path: Path) -> str:
    with path.open("rb") as stream:
        return subprocess.run(["cksum"], stdin=stream, capture_output=True, text=True, check=True).stdout.strip()


def packages(lock: Path) -> int:
    return sum(1 for line in lock.read_text().splitlines() if "==" in line and not line.startswith((" ", "#")))


if __name__ == "__main__":
    os.umask(0o022)
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        print("interrupted: the next run goes on from here", file=sys.stderr)
        sys.exit(4)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: .venv could not be made: {error}", file=sys.stderr)
        sys.exit(3)
