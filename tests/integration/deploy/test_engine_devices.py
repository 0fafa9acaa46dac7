"""Cards that only the engine sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmstack.deploy.machine import for_engine
from llmstack.detect.hardware import Detected
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.hardware import Cpu, Hardware, Ram

MACHINE = Hardware(Ram(32000, 30000), Cpu(8, 16))
ENGINE = Engine("embedded", EngineKind.EMBEDDED, EngineOrigin.EMBEDDED, ("python",), backends=("cpu",))


def test_cards_that_nvml_does_not_know_are_asked_of_the_engine(tmp_path: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text(
        "#!/bin/sh\necho 'Available devices:'\necho '  Vulkan0: AMD Radeon RX 7900 (24560 MiB, 24000 MiB free)'\n"
    )
    binary.chmod(0o755)
    vulkan = replace(ENGINE, name="vulkan", command=(str(binary),), backends=("vulkan", "cpu"))
    found = for_engine(Detected(MACHINE), vulkan)
    [device] = found.hardware.devices
    assert (device.backend.upper(), device.total_mib, device.free_mib) == ("VULKAN", 24560, 24000)
    assert found.warnings == ()
