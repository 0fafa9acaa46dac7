"""Hardware detection: cgroup limits of both versions, and an NVML that is missing, broken, split or in order."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmstack import hardware
from llmstack.detect.hardware import cgroup_memory, cpu, detect, nvidia_devices, ram
from llmstack.errors import BadInput
from llmstack.hardware import Cpu, Device, Hardware, Ram

MIB = 1 << 20


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def member(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "membership"
    path.write_text("\n".join(lines) + "\n")
    return path


class TestCgroups:
    def test_the_tightest_limit_above_the_process_counts(self, tmp_path: Path) -> None:
        root = tmp_path / "fs"
        group(root / "user" / "app", memory__max="max", memory__current=10 * MIB)
        group(root / "user", memory__max=2048 * MIB, memory__current=300 * MIB)
        group(root, memory__max=8192 * MIB, memory__current=900 * MIB)
        assert cgroup_memory(root, member(tmp_path, "0::/user/app")) == (2048 * MIB, 300 * MIB)

    def test_memory_high_is_a_limit_too(self, tmp_path: Path) -> None:
        root = tmp_path / "fs"
        group(root / "a", memory__max=4096 * MIB, memory__high=1024 * MIB, memory__current=5 * MIB)
        assert cgroup_memory(root, member(tmp_path, "0::/a"))[0] == 1024 * MIB

    def test_page_cache_counts_as_free(self, tmp_path: Path) -> None:
        root = tmp_path / "fs"
        stat = f"anon 1\ninactive_file {600 * MIB}"
        group(root / "a", memory__max=4096 * MIB, memory__current=900 * MIB, memory__stat=stat)
        assert cgroup_memory(root, member(tmp_path, "0::/a")) == (4096 * MIB, 300 * MIB)

    def test_version_1_is_read_and_its_huge_number_is_no_limit(self, tmp_path: Path) -> None:
        root = tmp_path / "fs"
        group(root / "memory", memory__limit_in_bytes=9223372036854771712)
        group(root / "memory" / "box", memory__limit_in_bytes=3 * 1024 * MIB, memory__usage_in_bytes=MIB)
        assert cgroup_memory(root, member(tmp_path, "4:memory:/box", "2:cpu:/box")) == (3 * 1024 * MIB, MIB)
        assert cgroup_memory(root, member(tmp_path, "4:memory:/")) == (None, 0)

    def test_no_cgroups_at_all_is_no_limit(self, tmp_path: Path) -> None:
        assert cgroup_memory(tmp_path / "none", tmp_path / "none") == (None, 0)


class FakeNvml(SimpleNamespace):
    """The few calls of NVML that detection makes, with cards given as data."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    NVML_CLOCK_MEM = 2

    def __init__(self, cards: list[dict[str, Any]], init: Exception | None = None) -> None:
        super().__init__(cards=cards, init=init, was_shut_down=False)

    def nvmlInit(self) -> None:
        if self.init:
            raise self.init

    def nvmlShutdown(self) -> None:
        self.was_shut_down = True

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        card: dict[str, Any] = self.cards[index]
        if "broken" in card:
            raise self.NVMLError("GPU is lost")
        return card

    def nvmlDeviceGetMigMode(self, card: dict[str, Any]) -> tuple[int, int]:
        if "mig" not in card:
            raise self.NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, card: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: dict[str, Any], index: int) -> dict[str, Any]:
        if index >= len(card["mig"]):
            raise self.NVMLError("Not Found")
        instance: dict[str, Any] = card["mig"][index]
        return instance

    def nvmlDeviceGetName(self, card: dict[str, Any]) -> str | bytes:
        name: str | bytes = card["name"]
        return name

    def nvmlDeviceGetMemoryInfo(self, card: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(total=card["total"] * MIB, free=card["free"] * MIB)

    def nvmlDeviceGetMemoryBusWidth(self, card: dict[str, Any]) -> int:
        return int(card["bits"])

    def nvmlDeviceGetMaxClockInfo(self, card: dict[str, Any], kind: int) -> int:
        assert kind == self.NVML_CLOCK_MEM
        return int(card["mhz"])

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: dict[str, Any]) -> int:
        return int(card["pcie"])

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: dict[str, Any]) -> int:
        return 16


RTX = {"name": "NVIDIA GeForce RTX 3060", "total": 12288, "free": 11500, "bits": 192, "mhz": 7501, "pcie": 4}


def using(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


class TestNvml:
    def test_a_card_is_described_with_bandwidth_and_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml([RTX])
        using(monkeypatch, nvml)
        [device], warnings = nvidia_devices()
        assert warnings == ()
        assert device == Device("NVIDIA GeForce RTX 3060", "CUDA", 12288, 11500, 360.0, None, 31.5)
        assert nvml.was_shut_down

    def test_a_driver_and_library_mismatch_is_a_warning_and_a_cpu_plan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([], FakeNvml.NVMLError("Driver/library version mismatch")))
        devices, [warning] = nvidia_devices()
        assert devices == ()
        assert "Driver/library version mismatch" in warning and "llmstack doctor" in warning

    def test_no_driver_is_no_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([], FakeNvml.NVMLError_LibraryNotFound("NVML Shared Library Not Found")))
        assert nvidia_devices() == ((), ())

    def test_a_missing_python_package_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, None)
        devices, [warning] = nvidia_devices()
        assert devices == () and "nvidia-ml-py" in warning

    def test_zero_cards_are_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([]))
        assert nvidia_devices() == ((), ())

    def test_a_card_in_mig_mode_is_its_instances(self, monkeypatch: pytest.MonkeyPatch) -> None:
        instance = {"name": b"MIG 2g.20gb", "total": 20000, "free": 19900}
        using(monkeypatch, FakeNvml([{**RTX, "mig": [instance, instance]}]))
        devices, _ = nvidia_devices()
        assert [(d.name, d.total_mib) for d in devices] == [("MIG 2g.20gb", 20000)] * 2

    def test_one_lost_card_does_not_hide_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([{"broken": True}, RTX]))
        devices, [warning] = nvidia_devices()
        assert [d.total_mib for d in devices] == [12288]
        assert "GPU 0" in warning and "GPU is lost" in warning


def test_this_machine_is_described() -> None:
    found = detect().hardware
    assert 0 < found.ram.available_mib <= found.ram.total_mib
    assert 1 <= found.cpu.physical_cores <= found.cpu.logical_cores
    assert ram().total_mib == found.ram.total_mib
    assert cpu() == found.cpu


def test_the_record_survives_json_and_a_bad_one_names_the_field() -> None:
    record = Hardware(Ram(1000, 900, 800), Cpu(4, 8, ("avx2",)), (Device("x", "CUDA", 10, 9, 1.5),))
    import msgspec

    assert hardware.from_json(msgspec.json.encode(record.to_json())) == record
    with pytest.raises(BadInput, match=r"\$\.ram"):
        hardware.from_json('{"ram": {"total_mib": "many"}, "cpu": {}}')
    with pytest.raises(BadInput):
        hardware.from_json("not json")
