"""The machine itself is measured: its RAM, its link, and who else keeps it busy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmstack.detect import bandwidth
from llmstack.detect.load import Watch


def test_reading_ram_gives_a_plausible_rate() -> None:
    assert 0.05 < bandwidth.ram_read_gbps(1, seconds=0.05, block=32 << 20) < 2000


def test_without_a_driver_the_link_is_an_error_of_the_system() -> None:
    if Path("/dev/nvidia0").exists():
        link = bandwidth.cuda_link(0)
        assert link.pageable_gbps > 0.1 and link.pinned_gbps > 0.1
    else:
        with pytest.raises((OSError, bandwidth.CudaError)):
            bandwidth.cuda_link(0)


def test_another_busy_program_is_seen_and_a_watched_one_is_not() -> None:
    spin = "import time\nend = time.time() + 8\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as busy:
        try:
            time.sleep(0.5)
            stranger, own = Watch([]), Watch([busy.pid])
            time.sleep(1.0)
            assert stranger.others() > own.others()
        finally:
            busy.kill()
