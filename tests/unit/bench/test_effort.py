"""The time that a run may take decides how much is measured; what is of another size is not compared."""

from __future__ import annotations

import msgspec
import pytest

from llmstack.bench.depths import _chunk
from llmstack.bench.modes import SETTINGS, Mode
from llmstack.bench.record import comparable
from llmstack.bench.session import cold_size
from llmstack.judge import compare_runs
from support.bench_runs import make_run, rate

QUICK = SETTINGS[Mode.QUICK]


@pytest.mark.parametrize(("prefill_tps", "chunk"), [(3000.0, 512), (171.0, 512), (90.0, 256), (30.0, 64), (2.0, 64)])
def test_a_slow_machine_reads_shorter_samples(prefill_tps: float, chunk: int) -> None:
    assert _chunk(prefill_tps, QUICK.effort.seconds) == chunk


def test_a_first_prompt_is_halved_until_it_is_possible_so_that_runs_of_a_like_speed_read_the_same() -> None:
    assert cold_size(6000, 9000) == 6000
    assert cold_size(6000, 2500) == cold_size(6000, 2000) == 1500
    assert cold_size(6000, 10) == 256


def test_prompts_of_another_size_are_not_compared() -> None:
    quick = make_run(1)
    slow = msgspec.structs.replace(quick, chunk=128, prompt_tokens=1500)
    assert comparable(quick, quick.chunk, quick.prompt_tokens) == quick.metrics
    assert comparable(quick, slow.chunk, slow.prompt_tokens).keys() == {
        "decode at 0",
        "decode at 2048",
        "cache hit ratio",
    }
    longer = {"first token cold": rate("first token cold", 1.0)}
    assert not compare_runs([comparable(quick, 512, 20_000)], longer).rows
