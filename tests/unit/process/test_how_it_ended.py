"""The end of a service in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.process.daemon import how_it_ended, oom_kills


@pytest.mark.parametrize(
    ("status", "out_of_memory", "words"),
    [
        (0, False, "exited with status 0"),
        (3, True, "exited with status 3"),
        (-9, False, "killed by SIGKILL"),
        (-9, True, "out of memory: the kernel killed it (SIGKILL)"),
        (-11, True, "killed by SIGSEGV"),
        (-99, False, "killed by signal 99"),
    ],
)
def test_the_end_of_a_service_in_words(status: int, out_of_memory: bool, words: str) -> None:
    assert how_it_ended(status, out_of_memory=out_of_memory) == words


def test_the_kernels_count_of_kills_is_read(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\noom_kill_other 9\n")
    assert oom_kills(tmp_path / "vmstat") == 7
    assert oom_kills(tmp_path / "absent") == 0
