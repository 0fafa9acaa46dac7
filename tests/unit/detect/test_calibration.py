"""What was measured on a machine is found again on that machine, and on no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.detect import bandwidth, calibration
from llmstack.hardware import Cpu, Device, Hardware, Measured, Ram, from_json
from llmstack.paths import Home

MACHINE = Hardware(Ram(32768, 30000), Cpu(8, 16, ("avx2",)))
CARD = Device("NVIDIA GeForce RTX 4070", "CUDA", 12282, 11900)
RATES = Measured(read_gbps=30.0, dense_gflops=300.0, error=0.08, engine="embedded")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


@pytest.fixture
def no_microbenchmark(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def read(threads: int, **_: object) -> float:
        calls.append(threads)
        return 41.5

    monkeypatch.setattr(bandwidth, "ram_read_gbps", read)
    return calls


def test_the_microbenchmark_runs_once_per_machine(home: Home, no_microbenchmark: list[int]) -> None:
    for _ in range(3):
        found = calibration.apply(calibration.ensure(home, MACHINE), MACHINE, "embedded")
        assert found.ram.bandwidth_gbps == 41.5
    assert no_microbenchmark == [8]


@pytest.mark.parametrize(
    "other",
    [
        replace(MACHINE, cpu=Cpu(4, 8, ("avx2",))),
        replace(MACHINE, devices=(CARD,)),
        replace(MACHINE, ram=Ram(65536, 1)),
    ],
    ids=["fewer cores", "a card more", "more RAM"],
)
def test_another_machines_record_is_not_used(home: Home, no_microbenchmark: list[int], other: Hardware) -> None:
    calibration.ensure(home, MACHINE)
    assert calibration.read(home, other) is None
    calibration.ensure(home, other)
    assert len(no_microbenchmark) == 2


def test_rates_belong_to_the_engine_they_were_measured_with(home: Home, no_microbenchmark: list[int]) -> None:
    calibration.ensure(home, MACHINE)
    calibration.remember(home, MACHINE, replace(MACHINE, measured=RATES), "embedded")
    kept = calibration.read(home, MACHINE)
    assert calibration.apply(kept, MACHINE, "embedded").measured == RATES
    assert calibration.apply(kept, MACHINE, "another").measured is None
    assert calibration.apply(kept, MACHINE, "another").ram.bandwidth_gbps == 41.5


def test_a_cards_measured_rates_replace_the_detected_ones(home: Home) -> None:
    machine = replace(MACHINE, devices=(replace(CARD, bandwidth_gbps=504.0),))
    measured = replace(CARD, bandwidth_gbps=430.0, compute_tflops=52.0, link_gbps=21.0)
    calibration.remember(home, machine, replace(machine, devices=(measured,), measured=RATES), "cuda")
    found = calibration.apply(calibration.read(home, machine), machine, "cuda").devices[0]
    assert (found.bandwidth_gbps, found.compute_tflops, found.link_gbps) == (430.0, 52.0, 21.0)
    assert found.free_mib == 11900


def test_a_torn_record_is_none(home: Home) -> None:
    home.state.mkdir(parents=True)
    home.calibration.write_bytes(b'{"machine": "x')
    assert calibration.read(home, MACHINE) is None


def test_the_hardware_record_carries_what_was_measured() -> None:
    import msgspec

    there = replace(MACHINE, measured=RATES)
    assert from_json(msgspec.json.encode(there.to_json())) == there
    assert "measured" not in MACHINE.to_json()
