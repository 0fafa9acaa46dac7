"""Vendors, backends, builds, numbers of cards, drivers and shells: what of a machine a plan uses, and what it says.

machines.toml holds one record for each machine.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from llmstack.deploy import machine, machine_record
from llmstack.deploy.machine import for_engine
from llmstack.detect import amdgpu, hardware
from llmstack.detect.driver_cards import DriverCard, DriverCards
from llmstack.detect.hardware import Detected, detect
from llmstack.engine.environment import DEVICE_VARIABLES, device_environment
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.engine.probe import DeviceList, parse_devices
from llmstack.errors import MissingPart
from llmstack.hardware import Cpu, Device, Ram
from llmstack.plan import Goal, ModelFacts, Plan, make_plan, read_facts
from llmstack.plan.devices import usable_devices, with_ids
from support.nvml import FakeNvml, using
from support.planner import shapes

MACHINES: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "machines.toml").read_text())["machine"]
CARD = {"bits": 192, "mhz": 7501, "pcie": 4, "total": 0, "free": 0}


def look(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Detected:
    """The machine of this record, as every plan sees it."""
    for name in DEVICE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, text in entry.get("environ", {}).items():
        monkeypatch.setenv(name, text)
    failure = FakeNvml.NVMLError(entry["nvml"]) if "nvml" in entry else None
    nvml = FakeNvml([{**CARD, **card} for card in entry.get("nvidia", [])], failure)
    monkeypatch.setattr(nvml, "nvmlSystemGetDriverVersion", lambda: entry.get("driver", "580.95.05"))
    using(monkeypatch, nvml)
    amd = tuple(DriverCard(Device(c["name"], "Vulkan", c["total"], c["free"])) for c in entry.get("amd", []))
    monkeypatch.setattr(amdgpu, "read", lambda: DriverCards(amd))
    total = entry.get("ram", 64000)
    monkeypatch.setattr(hardware, "ram", lambda: Ram(total, entry.get("available", total * 9 // 10)))
    monkeypatch.setattr(hardware, "cpu", lambda: Cpu(8, 16, ("avx2", "f16c", "fma")))
    lines = [f"  {line}" for line in entry.get("engine", "").splitlines() if line]
    listed = parse_devices("\n".join([entry.get("says", ""), "Available devices:", *lines]))
    monkeypatch.setattr(machine, "devices_of", lambda engine: DeviceList(listed, entry.get("problem", "")))
    backends = tuple(entry.get("backends", ("cuda", "cpu")))
    engine = Engine("test", EngineKind.BINARY, EngineOrigin.PATH, ("/opt/llama-server",), backends=backends)
    return for_engine(detect(), None if entry.get("no_engine") else engine)


def facts_of(name: str) -> ModelFacts:
    return read_facts(getattr(shapes, name)().header(), path="/m.gguf")


def planned(entry: dict[str, Any], detected: Detected) -> Plan:
    goal = Goal(pins=entry.get("pins", {}))
    return make_plan(facts_of(entry.get("model", "qwen3_8b")), detected.hardware, goal, detected.spare)


@pytest.mark.parametrize("entry", MACHINES, ids=[entry["about"] for entry in MACHINES])
def test_a_plan_uses_what_the_engine_can_use_and_says_what_it_leaves(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    detected = look(entry, monkeypatch)
    warns = entry.get("warns", [])
    assert len(detected.warnings) == len(warns), detected.warnings
    for sentence, piece in zip(detected.warnings, warns, strict=True):
        assert piece in sentence
    plan = planned(entry, detected)
    used = plan.argv[plan.argv.index("-dev") + 1].split(",") if "-dev" in plan.argv else []
    assert len(used) == entry["count"] if "count" in entry else used == entry["uses"]
    assert [d.id for d in plan.hardware.devices if d.unified] == entry.get("unified", [])
    assert ("-dev" in plan.argv) == bool(plan.hardware.devices)  # always by name where there is one
    if "free" in entry:
        assert [device.free_mib for device in plan.hardware.devices] == entry["free"]
    for piece in entry.get("notes", []):
        assert any(piece in note for note in plan.notes), plan.notes
    assert any("share one memory" in note for note in plan.notes) == bool(entry.get("unified"))


@pytest.mark.parametrize("entry", MACHINES, ids=[entry["about"] for entry in MACHINES])
def test_no_plan_takes_more_than_there_is(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(entry, look(entry, monkeypatch))
    pooled = 0.0
    for device, use, budget in zip(plan.hardware.devices, plan.memory.devices, plan.budget.devices, strict=True):
        assert use.total <= max(budget, 0)
        assert use.total == 0 or device.id in plan.assignment.devices  # one that is left out holds nothing
        pooled += use.total * device.unified
    assert plan.memory.host.total + pooled <= plan.budget.ram


def test_there_are_at_least_forty_machines() -> None:
    assert len(MACHINES) >= 40
    assert len({entry["about"] for entry in MACHINES}) == len(MACHINES)


class TestTheShell:
    def test_what_chooses_devices_reaches_the_engine_and_nothing_else_does(self) -> None:
        shell = {"HIP_VISIBLE_DEVICES": "1", "GGML_VK_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": "/opt/rocm/lib"}
        passed = device_environment({**shell, "HOME": "/home/u", "OPENAI_API_KEY": "secret", "CUDA_HOME": "/usr/cuda"})
        assert passed == {**shell, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def test_an_order_of_the_user_s_own_stays(self) -> None:
        assert device_environment({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}

    def test_an_empty_list_of_devices_is_a_list(self) -> None:
        assert device_environment({"CUDA_VISIBLE_DEVICES": ""})["CUDA_VISIBLE_DEVICES"] == ""


class TestNames:
    def test_a_device_without_an_id_takes_one_that_no_other_has(self) -> None:
        cards = with_ids([Device("A", "CUDA", 9, 9), Device("B", "CUDA", 9, 9, id="CUDA0"), Device("C", "CUDA", 9, 9)])
        assert [(card.name, card.id) for card in cards] == [("A", "CUDA1"), ("B", "CUDA0"), ("C", "CUDA2")]

    def test_a_device_s_name_is_safe_on_a_terminal(self) -> None:
        usable = usable_devices([Device("RTX 3090\x1b[31m\n", "CUDA", 9, 9)], Ram(9, 9))
        assert usable.devices[0].name == "RTX 3090\\x1b[31m\\n"
        assert usable_devices(usable.devices, Ram(9, 9)).devices == usable.devices

    def test_a_supposed_machine_s_full_card_is_told_too(self, tmp_path: Path) -> None:
        file = tmp_path / "hardware.json"
        card = '{"name": "NVIDIA GeForce RTX 3090", "backend": "CUDA", "total_mib": 24576, "free_mib": 200}'
        ram, cpu = '{"total_mib": 64000, "available_mib": 50000}', '{"physical_cores": 8, "logical_cores": 16}'
        file.write_text(f'{{"devices": [{card}], "ram": {ram}, "cpu": {cpu}}}')
        assert machine_record.machine_of_file(file).warnings == (
            "NVIDIA GeForce RTX 3090 is full: 200 of 24,576 MiB are free",
        )


@pytest.mark.parametrize("entry", MACHINES, ids=lambda entry: str(entry["about"]))
def test_nothing_is_downloaded_for_the_processor_beside_a_card_that_another_engine_could_use(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    detected = look(entry, monkeypatch)
    in_vain = not detected.hardware.devices and any("built without it" in text for text in detected.warnings)
    assert bool(detected.unused) == in_vain
    engine = Engine("cpu-only", EngineKind.BINARY, EngineOrigin.PATH, ("/opt/llama-server",))
    seen = machine_record.Machine(detected.hardware, engine, warnings=detected.warnings, unused=detected.unused)
    if not in_vain:
        machine.refuse_without_card(seen, "m", "llmstack up m --cpu")
        return
    with pytest.raises(MissingPart) as refused:
        machine.refuse_without_card(seen, "m", "llmstack up m --cpu")
    assert detected.unused[0] in refused.value.what and "cpu-only" in refused.value.what
    assert "engine install" in refused.value.next and "llmstack up m --cpu" in refused.value.next


def test_some_machine_of_the_table_is_refused_and_some_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {bool(look(entry, monkeypatch).unused) for entry in MACHINES} == {True, False}
