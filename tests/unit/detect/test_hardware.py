"""Hardware detection: cgroup limits of both versions, and an NVML that is missing, broken, split or in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmstack import hardware
from llmstack.detect import nvml
from llmstack.detect.hardware import cgroup_memory, cpu, detect, ram
from llmstack.errors import BadInput
from llmstack.hardware import Cpu, Device, Hardware, Ram
from support.nvml import FakeNvml, using

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


RTX = {"name": "NVIDIA GeForce RTX 3060", "total": 12288, "free": 11500, "bits": 192, "mhz": 7501, "pcie": 4}


def cards() -> tuple[tuple[Device, ...], tuple[str, ...]]:
    found = nvml.read()
    return found.devices, found.warnings


class TestNvml:
    def test_a_card_is_described_with_bandwidth_and_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakeNvml([RTX])
        using(monkeypatch, fake)
        [device], warnings = cards()
        assert warnings == ()
        assert device == Device("NVIDIA GeForce RTX 3060", "CUDA", 12288, 11500, 360.0, None, 31.5)
        assert fake.was_shut_down

    def test_a_card_that_no_table_knows_gets_its_rate_from_cores_clock_and_capability(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A card like an RTX PRO 4000: 8,960 cores at 2,617 MHz, 94 TFLOP/s by its maker's int8 rate."""
        new = {**RTX, "name": "NVIDIA RTX 9999", "capability": 12.0, "cores": 8960, "sm_mhz": 3271}
        using(monkeypatch, FakeNvml([new, {**RTX, "capability": 8.6, "cores": 3584, "sm_mhz": 2100}]))
        (unknown, known), _ = cards()
        assert unknown.compute_capability == 12.0
        assert unknown.compute_tflops == pytest.approx(94, rel=0.02)
        assert known.compute_tflops is None  # the table's figure is measured against

    def test_a_driver_and_library_mismatch_is_a_warning_and_a_cpu_plan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([], FakeNvml.NVMLError("Driver/library version mismatch")))
        devices, [warning] = cards()
        assert devices == ()
        assert "Driver/library version mismatch" in warning and "sudo reboot" in warning

    def test_no_driver_is_no_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([], FakeNvml.NVMLError_LibraryNotFound("NVML Shared Library Not Found")))
        assert cards() == ((), ())

    def test_a_missing_python_package_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, None)
        devices, [warning] = cards()
        assert devices == () and "nvidia-ml-py" in warning

    def test_zero_cards_are_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([]))
        assert cards() == ((), ())

    def test_a_card_in_mig_mode_is_its_instances(self, monkeypatch: pytest.MonkeyPatch) -> None:
        instance = {"name": b"MIG 2g.20gb", "total": 20000, "free": 19900}
        using(monkeypatch, FakeNvml([{**RTX, "mig": [instance, instance]}]))
        devices, _ = cards()
        assert [(d.name, d.total_mib) for d in devices] == [("MIG 2g.20gb", 20000)] * 2

    def test_one_lost_card_does_not_hide_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using(monkeypatch, FakeNvml([{"broken": True}, RTX]))
        devices, [warning] = cards()
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


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"devices": [{"total_mib": -5}]}, r"\$\.devices\[0\]\.total_mib"),
        ({"devices": [{"free_mib": 1 << 62}]}, "free_mib"),
        ({"devices": [{"bandwidth_gbps": -3}]}, "bandwidth_gbps"),
        ({"devices": [{"bandwidth_gbps": 1e308, "compute_tflops": 1e308}]}, "bandwidth_gbps"),
        ({"devices": [{"link_gbps": 0}]}, "link_gbps"),
        ({"devices": [{"id": "CUDA0,CUDA1"}]}, r"\.id"),
        ({"devices": [{"id": "none"}]}, r"\.id"),
        ({"devices": [{"id": "CUDA0"}, {"id": "CUDA0"}]}, r"devices\[1\]\.id"),
        ({"devices": [{"backend": "CUDA\n"}]}, "backend"),
        ({"ram": {"total_mib": -1, "available_mib": 0}}, r"\$\.ram\.total_mib"),
        ({"ram": {"total_mib": 9, "available_mib": 9, "bandwidth_gbps": -1}}, r"\$\.ram\.bandwidth_gbps"),
        ({"cpu": {"physical_cores": 0, "logical_cores": 0}}, "physical_cores"),
        ({"measured": {"read_gbps": -1}}, r"\$\.measured\.read_gbps"),
    ],
)
def test_a_record_of_no_machine_is_refused_by_its_field(part: dict[str, Any], field: str) -> None:
    card = {"name": "x", "backend": "CUDA", "total_mib": 10, "free_mib": 9}
    record = {"ram": {"total_mib": 9, "available_mib": 9}, "cpu": {"physical_cores": 4, "logical_cores": 8}, **part}
    record["devices"] = [card | device for device in part.get("devices", [])]
    with pytest.raises(BadInput, match=field):
        hardware.from_json(json.dumps(record))
