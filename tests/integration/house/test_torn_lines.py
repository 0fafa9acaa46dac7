"""A file of lines survives a line that was torn at its end."""

from __future__ import annotations

from pathlib import Path

from llmstack.bench.record import history, remember
from llmstack.paths import Home
from support.bench_runs import make_run


def test_a_torn_line_at_the_end_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()
    remember(home, make_run())
    whole = home.bench_history.read_bytes()
    home.bench_history.write_bytes(whole + whole[:40])
    remember(home, make_run())
    assert len(history(home)) == 2
