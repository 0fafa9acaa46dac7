"""What a disk refuses is told, with the file, the cause and the remedy."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack.disk_errors import DISK, of_disk


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk without a free byte; mounting one needs root."""
    assert os.geteuid() == 0, "this test mounts a small disk: run it as root"
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        (folder / "home").mkdir()
        with (folder / "ballast").open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):
            for _ in range(64):
                if stream.write(b"\0" * 4096) < 4096:
                    stream.write(b"\0" * 4096)
        yield folder / "home"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_command_on_a_full_disk_says_where_why_and_what_to_do(full_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmstack", "up", "--demo", "--json"],
        env={**os.environ, "LLMSTACK_HOME": str(full_disk), "LLMSTACK_SUPERVISOR": "process"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    told = json.loads(done.stdout)
    assert done.returncode == 3, told
    assert "itself failed" not in told["error"] and str(full_disk) in told["error"] + told["next"]
    assert "full" in told["why"] + told["error"] and "df -h" in told["next"]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", sorted(DISK))
def test_each_kind_names_its_file_and_a_remedy(number: int) -> None:
    error = of_disk(OSError(number, os.strerror(number), "/some/where/file"))
    assert "/some/where/file" in error.what and os.strerror(number) in error.why and error.next
    assert of_disk(OSError(number, os.strerror(number))).next
    assert errno.ENOENT not in DISK
