"""The kernel kills a service of llmstack's own supervisor for memory: the loop ends and the cause is told."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack.paths import Home
from llmstack.process import ProcessSupervisor
from llmstack.process import daemon as keeper
from llmstack.supervisor import Service, ServiceState
from support.user_manager import CGROUPS
from support.wait import eventually

LIMIT = 64 << 20


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 64 MiB of memory; making one needs root."""
    assert os.geteuid() == 0, "this test makes a control group: run it as root"
    is_v2 = (CGROUPS / "cgroup.controllers").exists()
    folder = (CGROUPS if is_v2 else CGROUPS / "memory") / f"llmstack-test-small-{os.getpid()}"
    folder.mkdir()
    (folder / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text(str(LIMIT))
    yield folder
    eventually(lambda: not (folder / "cgroup.procs").read_text().strip(), "the group is empty")
    with contextlib.suppress(OSError):
        folder.rmdir()


def test_fault_23_running_out_of_memory_again_and_again_ends_and_is_told(tmp_path: Path, small_group: Path) -> None:
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()
    enter = f'echo $$ > \'{small_group}/cgroup.procs\'; exec "$0" -c "$1"'
    eat = "x = bytearray(300 << 20)"
    supervisor = ProcessSupervisor(home)
    try:
        supervisor.apply([Service("server", "eater", ("/bin/sh", "-c", enter, sys.executable, eat))])
        eventually(lambda: supervisor.status()["server"].last_exit is not None, "the first death")
        status = supervisor.status()["server"]
        assert status.last_exit == "out of memory: the kernel killed it (SIGKILL)"
        eventually(lambda: supervisor.status()["server"].state is ServiceState.FAILED, "it gives up", within_s=40)
        assert supervisor.status()["server"].restarts == len(keeper.BACKOFF_S) + 1
    finally:
        supervisor.stop()
