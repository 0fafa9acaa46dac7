"""This machine, as every plan for it sees it: what the engine in use can use, measured, without our own server."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from llmstack import stackfile
from llmstack.commands import command_line
from llmstack.deploy.machine_record import Machine
from llmstack.detect import calibration, drivers
from llmstack.detect.driver_cards import DriverCard
from llmstack.detect.hardware import Detected, detect
from llmstack.detect.held import family
from llmstack.detect.holders import held_by_programs, idle
from llmstack.engine.environment import chosen_variables
from llmstack.engine.find import Engine, devices_of, find
from llmstack.engine.probe import DeviceList
from llmstack.errors import MissingPart
from llmstack.gguf import printable
from llmstack.hardware import Device, Hardware
from llmstack.paths import Home
from llmstack.plan import Plan
from llmstack.plan.devices import usable_hardware, with_ids

# Backends that can compute on a driver's card: what is built with none of them does not list it.
NVIDIAS = frozenset({"cuda", "vulkan", "opencl"})
AMDS = frozenset({"hip", "rocm", "vulkan", "opencl"})


def this_machine(
    home: Home, on_progress: Callable[[str], None] = lambda _: None, engine: Engine | None = None
) -> Machine:
    """Looks at the machine, and measures it (two seconds) where that was never done.

    Every command that plans calls this, so that all of them plan for the same machine. engine: the one in use unless
    another is given.
    """
    from llmstack.deploy.supervisors import supervisor_for  # both supervisors; a plan for another machine needs neither

    detected = detect()
    try:
        engine = engine or find(home)
    except MissingPart as error:
        detected = replace(detected, warnings=(*detected.warnings, error.what))
    detected = for_engine(detected, engine)
    chosen = chosen_variables(os.environ)
    if chosen and engine is not None:
        shell = ", ".join(f"{name}={printable(text)}" for name, text in chosen.items())
        sentence = f"your shell sets {shell}: the engine was asked for its devices with it, and the service gets it too"
        detected = replace(detected, warnings=(*detected.warnings, sentence))
    on_progress("looking at what was measured on this machine")
    rates = calibration.ensure(home, detected.hardware)
    measured = calibration.apply(rates, detected.hardware, engine.name if engine is not None else "")
    detected = replace(detected, hardware=measured)
    server = supervisor_for(home).status().get("server")
    pid = server.pid if server is not None else None
    if pid is None:
        machine = Machine(
            detected.hardware, engine, spare=detected.spare, warnings=detected.warnings, unused=detected.unused
        )
        return _with_holders(machine, detected.cards, ())
    deployed = stackfile.read(home)
    hardware, estimates = without_own_server(detected, pid, deployed.plan if deployed is not None else None)
    machine = Machine(hardware, engine, True, estimates, detected.spare, detected.warnings, unused=detected.unused)
    return _with_holders(machine, detected.cards, family({pid}))


def _with_holders(machine: Machine, cards: Sequence[DriverCard | None], ours: Collection[int]) -> Machine:
    """The same with the programs of others that hold memory of a card, and with the machine as it is without them."""
    holders = held_by_programs(cards, ours)
    if not holders:
        return machine
    devices = zip(machine.hardware.devices, cards, strict=False)
    without = replace(machine.hardware, devices=tuple(idle(device, card, ours) for device, card in devices))
    return replace(machine, holders=tuple((hold.program, hold.mib) for hold in holders), idle=without)


def for_engine(detected: Detected, engine: Engine | None) -> Detected:
    """The devices that this engine lists, with what the drivers know of them; without an engine, the drivers' own.

    What it does not list is left out and named: a plan for it would not come true.
    """
    if engine is None:
        return _usable(detected)
    listed = devices_of(engine)
    known = [card for card in detected.cards if card is not None]
    cards = drivers.beside(listed.devices, known, os.environ)
    devices = tuple(drivers.with_driver(device, card) for device, card in zip(listed.devices, cards, strict=True))
    warnings = (*detected.warnings, *_unlisted(known, cards, engine, listed))
    missing = [card.device for card in known if card not in cards]
    deliberate = bool(listed.problem or listed.devices or _hidden()) or _can_compute(engine, missing)
    unused = () if deliberate else tuple(device.name for device in missing)
    return _usable(Detected(replace(detected.hardware, devices=devices), warnings, cards, unused=unused))


def _usable(detected: Detected) -> Detected:
    """One device for each card that a plan may use."""
    hardware = detected.hardware
    listed = hardware.devices if all(device.id for device in hardware.devices) else with_ids(hardware.devices)
    cards: dict[str, DriverCard | None] = {}
    for device, card in zip(listed, detected.cards, strict=False):
        cards.setdefault(device.id, card)
    hardware, usable = usable_hardware(hardware)
    of_devices = tuple(cards.get(device.id) for device in usable.devices)
    warnings = (*detected.warnings, *usable.reasons)
    return Detected(hardware, warnings, of_devices, usable.spare, detected.unused)


def _unlisted(
    known: Sequence[DriverCard], listed: Sequence[DriverCard | None], engine: Engine, devices: DeviceList
) -> Iterator[str]:
    """Cards that a driver knows and the engine does not list, with the likeliest reason."""
    unused = [card.device.name for card in known if card not in listed]
    if not unused:
        return
    names = ", ".join(dict.fromkeys(unused))
    hidden = _hidden()
    if devices.problem:
        why = f"the engine {engine.name} did not list its devices ({devices.problem}); {command_line('doctor')}"
    elif hidden:
        why = f"{', '.join(f'{name}={text}' for name, text in hidden.items())} hides it from the engine"
    elif not _can_compute(engine, [card.device for card in known if card not in listed]):
        why = f"the engine {engine.name} is built without it; {command_line('engine', 'install')} builds one"
    else:
        why = (
            f"the engine {engine.name} lists no device for it, though it has {', '.join(engine.backends)}: its driver "
            f"is too old for that build, or this user may not open it; {command_line('doctor')}, or another build: "
            f"{command_line('engine', 'install')}"
        )
    yield f"{names} will not be used: {why}"


def _hidden() -> dict[str, str]:
    """What of the shell's environment hides cards from the engine."""
    return {name: text for name, text in chosen_variables(os.environ).items() if name.endswith("VISIBLE_DEVICES")}


def _can_compute(engine: Engine, cards: Sequence[Device]) -> bool:
    """Whether this build has a backend for one of these cards, which are the drivers' own."""
    built = {backend.lower() for backend in engine.backends}
    return any(built & (NVIDIAS if card.backend == "CUDA" else AMDS) for card in cards)


def refuse_without_card(machine: Machine, model: str, go_on: str) -> None:
    """Before a download: the size that suits the processor is not the one that suits the card.

    go_on: the command that does without the card. Raises MissingPart where another engine could use a card that is
    here.
    """
    if machine.engine is None or not machine.unused:
        return
    names = " and ".join(dict.fromkeys(machine.unused))
    raise MissingPart(
        f"the engine {machine.engine.name} cannot use your {names}, and {model} would be downloaded for the processor",
        why="with an engine for the card another size is the right one: this one would be downloaded in vain",
        next=f"{command_line('engine', 'install')}   gets an engine for the card, then run this again; "
        f"{go_on}   goes on without the card",
    )


def without_own_server(detected: Detected, pid: int, deployed: Plan | None) -> tuple[Hardware, bool]:
    """The machine with what our running server holds counted as free: it goes when the new one comes.

    And whether what it holds of a card had to be taken from its plan.

    deployed: its plan; what it holds of a card is taken from there where no driver tells it by process (cards that
    are not NVIDIA's, containers with process numbers of their own). pid: of the server.
    """
    import psutil

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return detected.hardware, False
    ram = detected.hardware.ram
    held = (memory.rss - getattr(memory, "shared", 0)) >> 20
    ram = replace(ram, available_mib=min(ram.limit_mib or ram.total_mib, ram.available_mib + held))
    devices = detected.hardware.devices
    of_devices, estimates = _held_by(family({pid}), detected, deployed)
    freed = tuple(
        replace(device, free_mib=min(device.total_mib, device.free_mib + mib))
        for device, mib in zip(devices, of_devices, strict=True)
    )
    return replace(detected.hardware, ram=ram, devices=freed), estimates


def _held_by(pids: set[int], detected: Detected, deployed: Plan | None) -> tuple[Sequence[int], bool]:
    """MiB by device that these processes hold, and whether it is taken from the plan."""
    devices = detected.hardware.devices
    readings = drivers.held_by_device(detected.cards, pids)
    if any(mib is not None for mib in readings):
        return [mib or 0 for mib in readings], False
    if deployed is None or _names(deployed.hardware.devices) != _names(devices):
        return [0] * len(devices), bool(devices)
    # What llama.cpp itself reports of a device; the driver's part is an upper estimate, so it is not given back.
    held = [round(use.weights + use.context + use.compute) for use in deployed.memory.devices]
    return held, any(held)


def _names(devices: Sequence[Device]) -> list[tuple[str, int]]:
    return [(device.name, device.total_mib) for device in devices]
