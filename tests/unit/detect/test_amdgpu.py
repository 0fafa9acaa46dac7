"""AMD's cards as /sys shows them, and what processes hold of them as /proc does."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.detect import amdgpu, drivers
from llmstack.detect.driver_cards import DriverCard, GpuProcess, held_mib
from llmstack.hardware import Device

MIB = 1 << 20
XTX, APU = "0000:03:00.0", "0000:c4:00.0"


def card(root: Path, number: int, slot: str, *, vram: int, used: int = 0, gtt: int = 0, vendor: str = "0x1002") -> Path:
    folder = root / f"sys/class/drm/card{number}/device"
    folder.mkdir(parents=True)
    values = {
        "vendor": vendor,
        "uevent": f"DRIVER=amdgpu\nPCI_SLOT_NAME={slot}",
        "mem_info_vram_total": vram * MIB,
        "mem_info_vram_used": used * MIB,
        "mem_info_gtt_total": gtt * MIB,
        "mem_info_gtt_used": 0,
        "max_link_speed": "16.0 GT/s PCIe",
        "max_link_width": 16,
    }
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def process(root: Path, pid: int, *clients: tuple[str, int, int], driver: str = "amdgpu") -> None:
    """clients: PCI address, client number, KiB; each has two descriptors, as a real program's have."""
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "fdinfo").mkdir()
    numbers = iter(range(3, 100))
    for slot, client, kib in clients:
        for _ in range(2):
            number = str(next(numbers))
            (folder / "fd" / number).symlink_to("/dev/dri/renderD128")
            (folder / "fdinfo" / number).write_text(
                f"pos:\t0\ndrm-driver:\t{driver}\ndrm-pdev:\t{slot}\ndrm-client-id:\t{client}\n"
                f"drm-memory-vram:\t{kib} KiB\n"
            )


def test_a_card_is_described_with_memory_and_link(tmp_path: Path) -> None:
    card(tmp_path, 1, XTX, vram=24560, used=260)
    [device] = amdgpu.read(tmp_path).devices
    assert (device.total_mib, device.free_mib, device.link_gbps, device.unified) == (24560, 24300, 31.5, False)


def test_a_part_of_the_processor_has_its_own_memory_and_what_it_may_take_of_ram(tmp_path: Path) -> None:
    card(tmp_path, 0, APU, vram=512, used=100, gtt=31000)
    [device] = amdgpu.read(tmp_path).devices
    assert device.unified and device.integrated
    assert (device.total_mib, device.free_mib) == (31512, 31412)


def test_a_machine_without_such_a_card_has_none_and_no_warning(tmp_path: Path) -> None:
    card(tmp_path, 0, "0000:01:00.0", vram=8000, vendor="0x10de")
    assert amdgpu.read(tmp_path) == amdgpu.read(tmp_path / "nothing")
    assert amdgpu.read(tmp_path).cards == ()


def test_a_client_with_several_descriptors_counts_once_and_clients_add_up(tmp_path: Path) -> None:
    card(tmp_path, 1, XTX, vram=24560)
    card(tmp_path, 2, "0000:08:00.0", vram=16368)
    process(tmp_path, 41, (XTX, 7, 2048 * 1024), (XTX, 8, 1024 * 1024), ("0000:08:00.0", 9, 512 * 1024))
    process(tmp_path, 42, (XTX, 7, 4096), driver="i915")
    first, second = amdgpu.read(tmp_path).processes
    assert first == (GpuProcess(41, 3072),)
    assert (held_mib(first, {41}), held_mib(second, {41}), held_mib(second, {42})) == (3072, 512, None)


def test_a_file_that_is_cut_or_strange_is_no_memory(tmp_path: Path) -> None:
    card(tmp_path, 1, XTX, vram=24560)
    process(tmp_path, 41, (XTX, 7, 1024))
    for file in (tmp_path / "proc/41/fdinfo").iterdir():
        file.write_text("drm-driver: amdgpu\ndrm-pdev: 0000:03:00.0\n")
    assert amdgpu.read(tmp_path).processes == ((GpuProcess(41, 0),),)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/99").mkdir()
    assert len(amdgpu.read(tmp_path).processes[0]) == 1


def test_a_node_that_may_not_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card(tmp_path, 1, XTX, vram=24560)
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    assert amdgpu.read(tmp_path).warnings == ()
    monkeypatch.setattr("os.access", lambda *_: False)
    [warning] = amdgpu.read(tmp_path).warnings
    assert "/dev/dri/renderD128" in warning and "usermod -aG render,video" in warning


class TestBesideTheEngine:
    """Which of a driver's cards an engine's device is."""

    cards = (
        DriverCard(Device("NVIDIA GeForce RTX 3090", "CUDA", 24576, 24000), (GpuProcess(1, 5),), "GPU-aaaa"),
        DriverCard(Device("NVIDIA GeForce RTX 3090", "CUDA", 24576, 9000), (GpuProcess(2, 6),), "GPU-bbbb"),
        DriverCard(Device("AMD GPU 0000:03:00.0", "Vulkan", 24560, 24300)),
    )

    def beside(self, *devices: Device, **environ: str) -> list[str | None]:
        cards = drivers.beside(devices, self.cards, environ)
        return [card.uuid or card.device.name if card is not None else None for card in cards]

    def cuda(self, count: int) -> list[Device]:
        return [Device("NVIDIA GeForce RTX 3090", "CUDA", 24124, 23000, id=f"CUDA{n}") for n in range(count)]

    def test_cards_of_one_name_are_taken_in_the_bus_s_order(self) -> None:
        assert self.beside(*self.cuda(2)) == ["GPU-aaaa", "GPU-bbbb"]

    def test_a_number_and_a_uuid_hide_the_others(self) -> None:
        assert self.beside(*self.cuda(1), CUDA_VISIBLE_DEVICES="1") == ["GPU-bbbb"]
        assert self.beside(*self.cuda(2), CUDA_VISIBLE_DEVICES="1,0") == ["GPU-bbbb", "GPU-aaaa"]
        assert self.beside(*self.cuda(1), CUDA_VISIBLE_DEVICES="GPU-bb") == ["GPU-bbbb"]

    def test_what_follows_an_invalid_number_is_hidden(self) -> None:
        assert self.beside(*self.cuda(1), CUDA_VISIBLE_DEVICES="1,-1,0") == ["GPU-bbbb"]

    def test_a_card_without_a_name_is_known_by_its_size(self) -> None:
        amd = Device("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Vulkan", 24560, 24000, id="Vulkan0")
        other = Device("AMD Radeon RX 6700 XT", "Vulkan", 12272, 12000, id="Vulkan1")
        assert self.beside(amd, other) == ["AMD GPU 0000:03:00.0", None]

    def test_no_driver_knows_a_card_behind_a_network(self) -> None:
        assert self.beside(Device("192.168.1.5:50052", "RPC", 24576, 20000, id="RPC0")) == [None]

    def test_the_context_of_the_process_that_lists_is_no_memory_that_is_gone(self) -> None:
        engine = Device("NVIDIA GeForce RTX 3090", "CUDA", 24124, 23600, id="CUDA0")
        assert drivers.with_driver(engine, self.cards[0]).free_mib == 24000
        assert drivers.with_driver(engine, self.cards[1]).free_mib == 23600  # the engine's word stands
        assert drivers.with_driver(engine, None) == engine
