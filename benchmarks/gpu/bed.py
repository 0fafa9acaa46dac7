"""What is measured on: a device, the engine that computes on it, and this machine as a plan sees it.

Without a card a stand-in takes its place: `ggml-rpc-server` on loopback, which is this machine's processor and RAM
under a device name of its own. It has no driver, no context and no link; rows say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.cuda import ballast
from llmstack.bench.scratch import scratch
from llmstack.deploy.load_log import HOST_BUFFER
from llmstack.deploy.machine import for_engine
from llmstack.detect import drivers
from llmstack.detect.hardware import detect
from llmstack.detect.held import vram_held_mib
from llmstack.engine.control import EngineClient
from llmstack.engine.find import Engine, EngineOrigin, of_binary
from llmstack.errors import MissingPart
from llmstack.hardware import Device, Hardware
from llmstack.paths import Home
from llmstack.plan import Goal, ModelFacts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from support.planner.oracle import stand_in_gpus

STAND_IN_MIB = 24_000
_BUFFERS = {
    part: re.compile(rf"(\S+) +{words} buffer size = +([\d.]+) MiB")
    for part, words in (("weights", "model"), ("context", "(?:KV|RS)"), ("compute", "compute"))
}


@dataclass(frozen=True, slots=True)
class Bed:
    """small: models of megabytes, for the suite. only: names of models, empty for all. say: where progress is told."""

    out: Path
    home: Home
    engine: Engine
    hardware: Hardware
    stand_in: bool
    small: bool
    only: tuple[str, ...]
    say: Callable[[str], None]

    @property
    def device(self) -> Device | None:
        return self.hardware.devices[0] if self.hardware.devices else None

    @property
    def limited(self) -> bool:
        """Whether the device's memory can be filled and measured from outside: NVIDIA's can."""
        return self.device is not None and self.device.backend == "CUDA" and not self.stand_in

    def about(self) -> dict[str, Any]:
        """The machine, in words: the head of each file."""
        device, driver = self.device, drivers.read().driver
        return {
            "device": device.name if device is not None else "the processor",
            "backend": device.backend if device is not None else "CPU",
            "vram_mib": device.total_mib if device is not None else 0,
            "stand_in": self.stand_in,
            "driver": driver or "",
            "engine": f"b{self.engine.build}" if self.engine.build else self.engine.version,
            "cores": self.hardware.cpu.physical_cores,
            "ram_mib": self.hardware.ram.total_mib,
        }

    def free_mib(self) -> int | None:
        """Free memory of the device as its driver says it now; None where no driver does."""
        cards = drivers.read().cards
        return cards[0].device.free_mib if cards and self.limited else None

    @contextmanager
    def started(self, facts: ModelFacts, a: Assignment, goal: Goal | None = None) -> Iterator[tuple[EngineClient, int]]:
        """An engine with this assignment, its log at the level that names buffers."""
        argv = (*flags(facts, a, goal or Goal(reasoning="auto")), "-lv", "4", "--no-warmup")
        with scratch(self.home, self.engine, argv, model_bytes=facts.size_bytes) as running:
            yield running

    def held(self, pid: int) -> dict[str, Any]:
        """MiB that the engine's log names by part, of the device; and what the driver says the process holds."""
        text = (self.home.logs / "scratch.log").read_text(errors="replace")
        parts = {
            part: round(sum(float(mib) for name, mib in pattern.findall(text) if not HOST_BUFFER.search(name)), 2)
            for part, pattern in _BUFFERS.items()
        }
        return {**parts, "driver": vram_held_mib([pid]) if self.limited else None}

    @contextmanager
    def with_free(self, mib: int) -> Iterator[Hardware]:
        """The machine with so much of the device left free by others. Where nothing can hold it, that is only said."""
        device = self.device
        assert device is not None
        smaller = replace(self.hardware, devices=(replace(device, free_mib=mib), *self.hardware.devices[1:]))
        with ExitStack() as stack:
            if self.limited:
                stack.enter_context(ballast(0, max(device.free_mib - mib, 0)))
                free = self.free_mib()
                if free is not None:
                    smaller = replace(smaller, devices=(replace(device, free_mib=free), *self.hardware.devices[1:]))
            yield smaller


@contextmanager
def bed_at(
    out: Path,
    binary: Path | None,
    *,
    stand_in: bool,
    small: bool,
    only: tuple[str, ...] = (),
    say: Callable[[str], None],
) -> Iterator[Bed]:
    """binary: of llama-server; None: what the build phase made. Raises MissingPart without one."""
    home = Home(out / "home/config", out / "home/state", out / "home/data", out / "home/cache")
    home.make()
    binary = binary or out / "engine" / "bin" / "llama-server"
    if not binary.is_file():
        raise MissingPart(f"there is no engine at {binary}", next="benchmarks/gpu/run build, or --engine FILE")
    engine = of_binary(binary, home, EngineOrigin.CONFIGURED)
    with ExitStack() as stack:
        if stand_in:
            gpus = stack.enter_context(stand_in_gpus(binary.parent))
            engine = replace(engine, command=(*engine.command, "--rpc", ",".join(gpus.endpoints)))
            device = Device("RPC0", "RPC", STAND_IN_MIB, STAND_IN_MIB, id="RPC0")
            hardware = replace(detect().hardware, devices=(device,))
        else:
            hardware = for_engine(detect(), engine).hardware
        yield Bed(out, home, engine, hardware, stand_in, small, only, say)
