"""This machine, as every plan for it sees it: what the engine in use can use, measured, without our own server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmstack import stackfile
from llmstack.commands import command_line
from llmstack.detect import calibration, nvml
from llmstack.detect.hardware import Detected, detect
from llmstack.engine.find import Engine, devices_of, find
from llmstack.errors import BadInput, MissingPart
from llmstack.hardware import Device, Hardware, from_json
from llmstack.paths import Home
from llmstack.plan import Plan


@dataclass(frozen=True, slots=True)
class Machine:
    """hardware: its free memory counts what our own server holds as free. engine: None where there is none to use.

    serves: our server runs. warnings: a sentence each.
    """

    hardware: Hardware
    engine: Engine | None = None
    serves: bool = False
    warnings: tuple[str, ...] = ()


def this_machine(home: Home, on_progress: Callable[[str], None] = lambda _: None) -> Machine:
    """Looks at the machine, and measures it (two seconds) where that was never done.

    Every command that plans calls this, so that all of them plan for the same machine.
    """
    from llmstack.deploy.supervisors import supervisor_for  # both supervisors; a plan for another machine needs neither

    detected, engine = detect(), None
    try:
        engine = find(home)
    except MissingPart as error:
        detected = replace(detected, warnings=(*detected.warnings, error.what))
    if engine is not None:
        detected = for_engine(detected, engine)
    on_progress("looking at what was measured on this machine")
    rates = calibration.ensure(home, detected.hardware)
    measured = calibration.apply(rates, detected.hardware, engine.name if engine is not None else "")
    detected = replace(detected, hardware=measured)
    server = supervisor_for(home).status().get("server")
    pid = server.pid if server is not None else None
    if pid is None:
        return Machine(detected.hardware, engine, warnings=detected.warnings)
    deployed = stackfile.read(home)
    hardware = without_own_server(detected, pid, deployed.plan if deployed is not None else None)
    return Machine(hardware, engine, True, detected.warnings)


def machine_of_file(file: Path) -> Machine:
    """Another machine, as its `llmstack doctor --hardware` describes it. Raises BadInput."""
    try:
        return Machine(from_json(file.read_bytes()))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None


def for_engine(detected: Detected, engine: Engine) -> Detected:
    """Leaves out the cards that this engine cannot use, and says so: a plan for them would not come true."""
    detected = _with_engine_devices(detected, engine)
    devices, backends = detected.hardware.devices, {backend.upper() for backend in engine.backends}
    usable = [index for index, device in enumerate(devices) if device.backend.upper() in backends]
    if len(usable) == len(devices):
        return detected
    unused = ", ".join(dict.fromkeys(d.name for index, d in enumerate(devices) if index not in usable))
    warning = (
        f"{unused} will not be used: the engine {engine.name} is built "
        f"without it; {command_line('engine', 'install')} builds one"
    )
    return Detected(
        replace(detected.hardware, devices=tuple(devices[index] for index in usable)),
        (*detected.warnings, warning),
        tuple(detected.processes[index] for index in usable if index < len(detected.processes)),
    )


def _with_engine_devices(detected: Detected, engine: Engine) -> Detected:
    """NVML knows NVIDIA's cards only: those of AMD, Intel and Apple are asked of an engine that is built for them."""
    accelerates = {backend.lower() for backend in engine.backends} - {"cpu", "rpc", "blas"}
    if detected.hardware.devices or not accelerates:
        return detected
    return Detected(replace(detected.hardware, devices=devices_of(engine)), detected.warnings)


def without_own_server(detected: Detected, pid: int, deployed: Plan | None) -> Hardware:
    """The machine with what our running server holds counted as free: it goes when the new one comes.

    deployed: its plan; what it holds of a card is taken from there where no driver tells it by process (cards that
    are not NVIDIA's, containers with process numbers of their own). pid: of the server.
    """
    import psutil

    try:
        server = psutil.Process(pid)
        memory = server.memory_info()
        pids = {pid, *(child.pid for child in server.children(recursive=True))}
    except psutil.Error:
        return detected.hardware
    ram = detected.hardware.ram
    held = (memory.rss - getattr(memory, "shared", 0)) >> 20
    ram = replace(ram, available_mib=min(ram.limit_mib or ram.total_mib, ram.available_mib + held))
    devices = detected.hardware.devices
    freed = _held_by(pids, detected, deployed)
    return replace(
        detected.hardware,
        ram=ram,
        devices=tuple(
            replace(device, free_mib=min(device.total_mib, device.free_mib + mib))
            for device, mib in zip(devices, freed, strict=True)
        ),
    )


def _held_by(pids: set[int], detected: Detected, deployed: Plan | None) -> Sequence[int]:
    """MiB by device that these processes hold."""
    devices = detected.hardware.devices
    readings = [nvml.held_mib(running, pids) for running in detected.processes]
    if len(readings) == len(devices) and any(mib is not None for mib in readings):
        return [mib or 0 for mib in readings]
    if deployed is None or _names(deployed.hardware.devices) != _names(devices):
        return [0] * len(devices)
    # What llama.cpp itself reports of a device; the driver's part is an upper estimate, so it is not given back.
    return [round(use.weights + use.context + use.compute) for use in deployed.memory.devices]


def _names(devices: Sequence[Device]) -> list[tuple[str, int]]:
    return [(device.name, device.total_mib) for device in devices]
