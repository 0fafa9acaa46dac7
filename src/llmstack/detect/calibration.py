"""What was measured on this machine, kept beside the stack: the planner reads it instead of assuming.

calibration.json holds the microbenchmark (once per machine) and, for each engine, the rates that `bench` fitted.
A record of another machine (a moved home, a new card, another core count) is not used.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import replace

import msgspec

from llmstack.hardware import Device, Hardware, Measured
from llmstack.paths import Home, write_cached, write_private
from llmstack.plan.rates import PINNED_LINK  # the planner takes this share of the link's own rate


class CardRates(msgspec.Struct, frozen=True):
    """GB/s, TFLOP/s, GB/s: what replaces the published figures of a card."""

    bandwidth_gbps: float | None = None
    compute_tflops: float | None = None
    link_gbps: float | None = None


class EngineRates(msgspec.Struct, frozen=True):
    """at: seconds since the epoch."""

    measured: Measured
    cards: tuple[CardRates, ...]
    at: float


class Calibration(msgspec.Struct, frozen=True):
    """machine: what the figures belong to. ram_gbps and links come from the microbenchmark."""

    machine: str
    ram_gbps: float | None = None
    links: tuple[float | None, ...] = ()
    at: float = 0.0
    engines: dict[str, EngineRates] = {}


def machine_of(hardware: Hardware) -> str:
    """What must be the same for a measurement to hold: cores, instruction sets, RAM, cards."""
    cards = ";".join(f"{device.name}/{device.total_mib}" for device in hardware.devices)
    cpu = hardware.cpu
    return f"{cpu.physical_cores}/{cpu.logical_cores} {','.join(cpu.flags)} {hardware.ram.total_mib} {cards}"


def read(home: Home, hardware: Hardware) -> Calibration | None:
    """None without a record, with one that cannot be read, and with another machine's."""
    try:
        record = msgspec.json.decode(home.calibration.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.machine == machine_of(hardware) else None


def apply(calibration: Calibration | None, hardware: Hardware, engine: str) -> Hardware:
    """The machine with everything that was measured on it filled in."""
    if calibration is None:
        return hardware
    ram = replace(hardware.ram, bandwidth_gbps=hardware.ram.bandwidth_gbps or calibration.ram_gbps)
    devices = tuple(
        replace(device, link_gbps=link or device.link_gbps)
        for device, link in zip(hardware.devices, _padded(calibration.links, hardware.devices), strict=True)
    )
    rates = calibration.engines.get(engine)
    if rates is None or len(rates.cards) != len(devices):
        return replace(hardware, ram=ram, devices=devices)
    devices = tuple(
        replace(
            device,
            bandwidth_gbps=card.bandwidth_gbps or device.bandwidth_gbps,
            compute_tflops=card.compute_tflops or device.compute_tflops,
            link_gbps=card.link_gbps or device.link_gbps,
        )
        for device, card in zip(devices, rates.cards, strict=True)
    )
    return replace(hardware, ram=ram, devices=devices, measured=rates.measured)


def _padded(links: tuple[float | None, ...], devices: tuple[Device, ...]) -> tuple[float | None, ...]:
    return (*links, *(None for _ in devices))[: len(devices)]


def ensure(home: Home, hardware: Hardware) -> Calibration:
    """The record, made by the microbenchmark if there is none: two seconds, once per machine."""
    record = read(home, hardware)
    if record is not None:
        return record
    from llmstack.detect import bandwidth  # ctypes and a driver's library: once per machine

    ram: float | None = None
    with contextlib.suppress(OSError):
        ram = bandwidth.ram_read_gbps(hardware.cpu.physical_cores)
    links: list[float | None] = []
    for device in hardware.devices:
        link: float | None = None
        index = int(re.sub(r"\D", "", device.id) or 0)  # CUDA1 is the driver's number 1, by PCI bus
        if device.backend == "CUDA":
            with contextlib.suppress(OSError, AttributeError, bandwidth.CudaError):
                link = round(bandwidth.cuda_link(index).pinned_gbps / PINNED_LINK, 1)
        links.append(link)
    made = Calibration(machine_of(hardware), ram, tuple(links), time.time())
    write_cached(home.calibration, msgspec.json.encode(made))
    return made


def remember(home: Home, hardware: Hardware, fitted: Hardware, engine: str) -> None:
    """Keeps the rates that `plan.calibrate.fit` found for this engine. Nothing to keep where nothing was fitted."""
    if fitted.measured is None:
        return
    record = read(home, hardware) or Calibration(machine_of(hardware))
    cards = tuple(CardRates(d.bandwidth_gbps, d.compute_tflops, d.link_gbps) for d in fitted.devices)
    rates = EngineRates(fitted.measured, cards, time.time())
    write(home, msgspec.structs.replace(record, engines={**record.engines, engine: rates}))


def write(home: Home, calibration: Calibration) -> None:
    write_private(home.calibration, msgspec.json.encode(calibration))
