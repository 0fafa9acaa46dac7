"""The one reader of NVML: NVIDIA's cards as CUDA lists them, and which process holds how much of each.

A missing or broken driver is a finding, not an error. Function names: nvml.h of the CUDA toolkit.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmstack.commands import command_line
from llmstack.detect.driver_cards import LANE_GBPS, DriverCard, DriverCards, GpuProcess
from llmstack.hardware import Device
from llmstack.plan.cards import family_of_capability, figures_of

MIB = 1 << 20
SUSTAINED_CLOCK = 0.8  # of the highest clock: an RTX 3090 computes at 1,695 of 2,100 MHz
OLDEST_TELLING = 510  # drivers before it do not say by which process memory is held (nvml.h: the _v3 calls)


def read() -> DriverCards:
    try:
        import pynvml
    except ImportError:
        return DriverCards(warnings=("the Python package nvidia-ml-py is missing, so no NVIDIA card can be seen",))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        is_absent = isinstance(error, pynvml.NVMLError_LibraryNotFound)
        if is_absent and not Path("/proc/driver/nvidia").exists():
            return DriverCards()  # no NVIDIA driver at all: an ordinary machine without such a card
        return DriverCards(problem="" if is_absent else str(error), warnings=(_unanswered(error),))
    try:
        return _cards(pynvml)
    except pynvml.NVMLError as error:
        return DriverCards(problem=str(error), warnings=(f"the NVIDIA cards cannot be read ({error})",))
    finally:
        pynvml.nvmlShutdown()


def _unanswered(error: Exception) -> str:
    """Why no card can be seen, and what helps."""
    text, reason = str(error), f"the NVIDIA driver does not answer ({error}): planned without its cards"
    if "mismatch" in text.lower():
        return f"{reason}. An update replaced its library while the old driver is loaded: sudo reboot"
    if "permission" in text.lower():
        return f"{reason}. This user may not open /dev/nvidia*: sudo usermod -aG video $USER, then log in again"
    return f"{reason}; see {command_line('doctor')}"


def _cards(nvml: Any) -> DriverCards:
    cards: list[DriverCard] = []
    warnings: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            cards += [
                DriverCard(_device(nvml, handle, card), _processes(nvml, handle), _uuid(nvml, handle))
                for handle in _instances(nvml, card)
            ]
        except nvml.NVMLError as error:
            warnings.append(_unreadable(index, error))
    driver = _driver(nvml)
    if cards and _major(driver) is not None and (_major(driver) or 0) < OLDEST_TELLING:
        warnings.append(
            f"the NVIDIA driver {driver} is older than {OLDEST_TELLING}: it does not say which program holds a card's "
            f"memory, and CUDA 12 builds need 525 or newer; updating it helps both"
        )
    return DriverCards(tuple(cards), driver, warnings=tuple(warnings))


def _unreadable(index: int, error: Exception) -> str:
    sentence = f"GPU {index} cannot be read ({error}) and is left out"
    return f"{sentence}: it fell off the bus; sudo reboot brings it back" if "lost" in str(error).lower() else sentence


def _major(driver: str | None) -> int | None:
    first = (driver or "").split(".")[0]
    return int(first) if first.isdigit() else None


def _uuid(nvml: Any, handle: Any) -> str:
    """As CUDA_VISIBLE_DEVICES names it; empty where the driver does not say."""
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        uuid = nvml.nvmlDeviceGetUUID(handle)
        return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
    return ""


def _driver(nvml: Any) -> str | None:
    try:
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _instances(nvml: Any, card: Any) -> list[Any]:
    """What CUDA can use of a card: itself, or in MIG mode its instances."""
    try:
        mig, _ = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError:
        mig = 0
    if not mig:
        return [card]
    instances = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number))
        except nvml.NVMLError:
            continue
    return instances


def _device(nvml: Any, handle: Any, card: Any) -> Device:
    """A card without memory of its own (GB10, Jetson: "Not Supported", or 0 bytes) shares the machine's RAM."""
    name = nvml.nvmlDeviceGetName(handle)
    device = Device(name.decode() if isinstance(name, bytes) else str(name), "CUDA", 0, 0, unified=True)
    capability = _capability(nvml, card)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if "not supported" in str(error).lower():
            return device
        raise
    if not int(memory.total):
        return device
    return replace(
        device,
        total_mib=int(memory.total) // MIB,
        free_mib=int(memory.free) // MIB,
        bandwidth_gbps=_memory_bandwidth(nvml, card),
        link_gbps=_link_bandwidth(nvml, card),
        compute_tflops=None if figures_of(device.name).known else _compute(nvml, card, capability),
        compute_capability=capability,
        unified=False,
    )


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    """Empty where the driver is too old to say, or refuses."""
    running: list[GpuProcess] = []
    # Before 510 the driver's library has no such call: nvidia-ml-py then raises an error that is no NVMLError.
    refusals = (nvml.NVMLError, nvml.NVMLLibraryMismatchError)
    for ask, computes in ((nvml.nvmlDeviceGetComputeRunningProcesses, True),
                          (nvml.nvmlDeviceGetGraphicsRunningProcesses, False)):  # fmt: skip
        try:
            for process in ask(handle):
                used = process.usedGpuMemory
                running.append(GpuProcess(int(process.pid), None if used is None else int(used) // MIB, computes))
        except refusals:
            continue
    return tuple(running)


def _memory_bandwidth(nvml: Any, card: Any) -> float | None:
    """bus width * memory clock * 2 (double data rate), GB/s."""
    try:
        bits = nvml.nvmlDeviceGetMemoryBusWidth(card)
        mhz = nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM)
    except nvml.NVMLError:
        return None
    return round(bits / 8 * mhz * 2 / 1000, 1) if bits and mhz else None


def _capability(nvml: Any, card: Any) -> float | None:
    """CUDA's compute capability: 8.6 of an RTX 3090."""
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(card)
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
        return None
    return int(major) + int(minor) / 10


def _compute(nvml: Any, card: Any, capability: float | None) -> float | None:
    """TFLOP/s as plan.cards counts them, of a card that its table does not know: cores, clock and family."""
    if capability is None:
        return None
    try:
        cores = nvml.nvmlDeviceGetNumGpuCores(card)
        mhz = nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM)
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
        return None
    plain = 2 * int(cores) * int(mhz) * SUSTAINED_CLOCK / 1e6
    return round(plain * family_of_capability(capability).per_core, 1) or None


def _link_bandwidth(nvml: Any, card: Any) -> float | None:
    """The widest PCIe link that card and slot agree on, GB/s in one direction."""
    try:
        generation = nvml.nvmlDeviceGetMaxPcieLinkGeneration(card)
        lanes = nvml.nvmlDeviceGetMaxPcieLinkWidth(card)
    except nvml.NVMLError:
        return None
    per_lane = LANE_GBPS.get(int(generation))
    return round(per_lane * lanes, 1) if per_lane and lanes else None
