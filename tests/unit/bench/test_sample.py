"""Sampling: several samples, quiet ones first, and an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmstack.bench import sample
from llmstack.bench.sample import Sampler, Work


class Machine:
    """A clock and a load that the test sets; each call of work takes `takes` seconds."""

    def __init__(self, loads: list[float]) -> None:
        self.now = 0.0
        self.loads = loads
        self.calls = 0
        self.paces = [100.0]

    def pace(self, seconds: float) -> float:
        self.now += seconds
        return self.paces.pop(0) if len(self.paces) > 1 else self.paces[0]

    def perf_counter(self) -> float:
        return self.now

    def work(self, tokens: float, takes: float) -> Callable[[], Work]:
        def run() -> Work:
            self.calls += 1
            self.now += takes
            return Work(tokens, takes)

        return run


class Watch:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def restart(self) -> None: ...

    def others(self) -> float:
        loads = self.machine.loads
        return loads.pop(0) if len(loads) > 1 else loads[0]


def make(monkeypatch: pytest.MonkeyPatch, loads: list[float], patience_s: float = 0.0) -> tuple[Machine, Sampler]:
    machine = Machine(loads)
    monkeypatch.setattr(sample, "time", machine)
    sampler = Sampler([], patience_s=patience_s, pace=machine.pace)
    sampler.watch = Watch(machine)  # type: ignore[assignment]
    return machine, sampler


def test_a_rate_is_units_per_second_and_agreeing_samples_end_it_early(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0])
    found = sampler.rate("x", machine.work(100, 0.5), repeats=7, seconds=60)
    assert (found.median, found.n) == (200.0, 3)


def test_short_work_is_taken_together_until_clocks_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0])
    sampler.rate("x", machine.work(10, 0.01), repeats=3, seconds=60)
    assert machine.calls >= 3 * 30


def test_busy_samples_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0, 0.9, 0.0, 0.9, 0.0])  # a look and a sample, in turns
    found = sampler.rate("x", machine.work(100, 0.5), repeats=3, seconds=60)
    assert machine.calls == 5 and not found.busy


def test_it_ends_on_a_machine_that_never_gets_quiet_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.8], patience_s=5.0)
    found = sampler.rate("x", machine.work(100, 0.5), repeats=4, seconds=1000)
    assert machine.calls == 12 and found.busy


def test_time_that_is_up_ends_it_after_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0])
    found = sampler.rate("x", machine.work(100, 30.0), repeats=4, seconds=10)
    assert (machine.calls, found.n) == (1, 1)


def test_waiting_for_quiet_stays_within_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.9], patience_s=2.0)
    for _ in range(10):
        sampler.look()
    assert machine.now <= 2.0 + 10 * 0.1 + 1e-6


def test_a_metric_carries_the_median_pace_of_the_machine_beside_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0])
    machine.paces = [100.0, 60.0, 62.0]
    assert sampler.rate("x", machine.work(100, 0.5), repeats=3, seconds=60).pace == 62.0


def test_an_engine_on_devices_alone_is_sampled_without_the_processors_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, sampler = make(monkeypatch, [0.0])
    monkeypatch.setattr(machine, "sleep", lambda seconds: machine.work(0, seconds)(), raising=False)
    alone = Sampler([], patience_s=0.0, pace=sample.unpaced)
    alone.watch = sampler.watch
    found = alone.rate("x", machine.work(100, 0.5), repeats=3, seconds=60)
    assert found.median == 200.0 and found.pace is None
