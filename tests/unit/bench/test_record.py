"""History: what is kept, found again by name, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.bench.record import changed_flags, history, like, named, new_id, remember
from llmstack.errors import BadInput
from llmstack.paths import Home
from support.bench_runs import make_run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


def test_runs_come_back_as_they_were_kept_the_oldest_first(home: Home) -> None:
    runs = (make_run(1), make_run(2, factor=0.9))
    for run in runs:
        remember(home, run)
    assert history(home) == runs


def test_a_line_cut_off_by_a_crash_and_one_of_an_older_format_are_passed_over(home: Home) -> None:
    remember(home, make_run(1))
    with home.bench_history.open("ab") as stream:
        stream.write(b'{"prefill_tps": 1.0}\n{"prefill_tps": 12')
    assert [run.id for run in history(home)] == [make_run(1).id]


def test_without_a_file_there_is_no_history(home: Home) -> None:
    assert history(home) == ()


def test_a_run_is_compared_with_runs_of_its_own_model_only() -> None:
    mine = make_run(3)
    assert [run.id for run in like((make_run(1), make_run(2, model="other"), mine), mine)] == [make_run(1).id]


@pytest.mark.parametrize(("name", "number"), [("last", 3), ("last~1", 2), ("1120-180001", 1), ("1120-180003", 3)])
def test_a_run_is_found_by_its_id_and_counted_from_the_last(name: str, number: int) -> None:
    assert named((make_run(1), make_run(2), make_run(3)), name).id == make_run(number).id


@pytest.mark.parametrize("name", ["1120", "nothing", "last~7"])
def test_a_name_of_no_run_or_of_several_is_refused_with_the_next_command(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        named((make_run(1), make_run(2)), name)
    assert "bench history" in caught.value.next


def test_two_runs_in_one_second_have_two_ids() -> None:
    first = new_id((), 1_795_000_000.0)
    assert new_id((first,), 1_795_000_000.0) == first + "b"


def test_what_changed_between_two_runs_is_named_by_flag() -> None:
    before, after = make_run(1, argv=("-t", "2", "-nkvo", "-ub", "512")), make_run(2, argv=("-t", "1", "-ub", "512"))
    assert changed_flags(before, after) == ("-t 2 → 1", "-nkvo  → (absent)")
