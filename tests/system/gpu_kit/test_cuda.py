"""Memory held on purpose and the link's speed, on a libcuda that is compiled for it (tests/support/fake_cuda.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu.cuda import MIB, NoDriver, ballast
from support import fake_cuda
from support.wait import eventually

LINK = """
from benchmarks.gpu.cuda import Driver
driver = Driver(0)
print(driver.to_device_gbps(pinned=True), driver.to_device_gbps(pinned=False))
"""


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 GiB."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_cuda.install(tmp_path).parent))
    monkeypatch.setenv("FAKE_CUDA_MIB", "2048")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))


def holders() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "hold" in child.cmdline()]


@pytest.mark.usefixtures("card")
def test_a_card_is_filled_while_the_block_runs_and_empty_after_it() -> None:
    with ballast(0, 1500):
        [holder] = holders()
        assert holder.memory_info().vms >= 1500 * MIB
    eventually(lambda: not holders(), "the holder has ended")


@pytest.mark.usefixtures("card")
def test_more_than_the_card_has_is_refused_by_the_drivers_own_number() -> None:
    with pytest.raises(NoDriver, match="cuMemAlloc_v2: error 2"), ballast(0, 4096):
        pass
    with pytest.raises(NoDriver, match="cuDeviceGet: error 101"), ballast(1, 1):
        pass


@pytest.mark.usefixtures("card")
def test_the_links_speed_is_measured_from_pinned_and_from_ordinary_memory() -> None:
    done = subprocess.run([sys.executable, "-c", LINK], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    pinned, pageable = map(float, done.stdout.split())
    assert pinned > 0.1 and pageable > 0.1


def test_without_a_driver_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    with pytest.raises(NoDriver, match="libcuda"), ballast(0, 1):
        pass
