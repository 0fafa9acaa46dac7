"""`plan` shows what `up` does: the same argument list and the same change of the services, on every kind of machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from llmstack import paths, stackfile
from llmstack.cli.plan import command as plan_command
from llmstack.deploy import apply, machine, observe, prepare, supervisors, tools_shown, tuned, warm
from llmstack.deploy.planning import UpRequest, plan_for
from llmstack.detect import bandwidth, hardware
from llmstack.detect.model_file import open_model
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.engine.probe import DeviceList
from llmstack.errors import NotSo
from llmstack.fetch.model import ResolvedModel
from llmstack.hardware import Cpu, Device, Ram
from llmstack.paths import Home
from llmstack.plan import Goal
from llmstack.process import ProcessSupervisor
from llmstack.process.files import next_order
from llmstack.stackfile import HealthRecord, StackRecord
from llmstack.supervisor import Service, ServiceState, ServiceStatus
from support.nvml import FakeNvml, using
from support.planner import shapes

GIB = 1024
CUDA = Engine(
    "cuda-11434", EngineKind.BINARY, EngineOrigin.PATH, ("/opt/llama-server",), "b11434", 11434, ("cuda", "cpu")
)
CPU_ONLY = Engine("embedded", EngineKind.EMBEDDED, EngineOrigin.EMBEDDED, ("/opt/python",), backends=("cpu",))
RTX_3060 = {"name": "NVIDIA GeForce RTX 3060", "total": 12288, "free": 11800, "bits": 192, "mhz": 7501, "pcie": 4}
RTX_4090 = {"name": "NVIDIA GeForce RTX 4090", "total": 24564, "free": 23900, "bits": 384, "mhz": 10501, "pcie": 4}
MACHINES: dict[str, tuple[list[dict[str, Any]], Engine]] = {
    "CPU only": ([], CPU_ONLY),
    "one card": ([RTX_3060], CUDA),
    "two cards": ([RTX_3060, RTX_4090], CUDA),
    "a card the engine cannot use": ([RTX_3060], CPU_ONLY),
}


class Still(ProcessSupervisor):
    """Keeps the orders and starts nothing: its server is this process."""

    def apply(self, services: Sequence[Service]) -> tuple[str, ...]:
        self._folder.write_order(next_order(services, self._folder.read_order()))
        return tuple(service.name for service in services)

    def stop(self) -> None:
        pass

    def status(self) -> dict[str, ServiceStatus]:
        return {s.name: ServiceStatus(s.name, ServiceState.RUNNING, os.getpid()) for s in self.ordered()}


def sane(home: Home, stack: StackRecord) -> HealthRecord:
    return HealthRecord(100.0, 10.0, 10, 9, 0.99, 0.1, 0.01, "hello", 0.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A machine of 64 GiB whose services are orders on disk; nothing listens, nothing is measured."""
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv(supervisors.VARIABLE, "process")
    monkeypatch.setattr(supervisors, "ProcessSupervisor", Still)
    monkeypatch.setattr(hardware, "ram", lambda: Ram(64 * GIB, 56 * GIB))
    monkeypatch.setattr(hardware, "cpu", lambda: Cpu(8, 16, ("avx2", "f16c", "fma")))
    monkeypatch.setattr(bandwidth, "ram_read_gbps", lambda threads: 60.0)
    monkeypatch.setattr(bandwidth, "cuda_link", lambda index: bandwidth.Link(10.0, 20.0))
    monkeypatch.setattr(apply, "check", sane)
    monkeypatch.setattr(observe, "require", lambda home, stack, supervisor: stack)
    monkeypatch.setattr(tools_shown, "look", lambda home, stack: (stack, ()))
    monkeypatch.setattr(apply, "_wait", lambda *_: None)
    monkeypatch.setattr(apply, "_check_ports", lambda *_: None)
    monkeypatch.setattr(warm, "save", lambda *_: 0)
    monkeypatch.setattr(warm, "restore", lambda *_: {})
    return paths.home()


@pytest.fixture(params=MACHINES)
def on_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    set_machine(monkeypatch, *MACHINES[request.param])
    return str(request.param)


def set_machine(monkeypatch: pytest.MonkeyPatch, cards: list[dict[str, Any]], engine: Engine) -> None:
    """The drivers' cards, and an engine that lists them when it is built for them."""
    using(monkeypatch, FakeNvml(cards))
    listed = [
        Device(card["name"], "CUDA", card["total"], card["free"], id=f"CUDA{number}")
        for number, card in enumerate(cards)
        if "cuda" in engine.backends
    ]
    monkeypatch.setattr(machine, "devices_of", lambda engine: DeviceList(tuple(listed)))
    monkeypatch.setattr(machine, "find", lambda home: engine)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shapes.qwen3_8b().write(tmp_path)


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    return shapes.qwen3moe_30b().write(tmp_path)


def planned(*arguments: str) -> dict[str, Any]:
    ran = CliRunner().invoke(plan_command, [*arguments, "--json"], standalone_mode=False)
    assert ran.return_value == 0, ran.output
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def bring_up(
    home: Home, request: UpRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[StackRecord, list[dict[str, Any]]]:
    """What `up` deployed, and how its services changed thereby."""
    seen: list[Any] = []

    def preview(supervisor: Any, services: Sequence[Service]) -> Any:
        seen.append(supervisors.preview(supervisor, services))
        return seen[-1]

    monkeypatch.setattr(apply, "preview", preview)
    deployment = prepare.prepare(home, request, lambda _: None).deployment
    outcome = apply.up(home, deployment, lambda _: None)
    changes = [{"unit": c.unit, "kind": c.kind.value, "lines": list(c.lines)} for c in seen[-1].changes]
    return outcome.stack, changes


def agree(home: Home, monkeypatch: pytest.MonkeyPatch, model: Path, goal: Goal = Goal(), *flags: str) -> StackRecord:  # noqa: B008
    """`plan`, then `up` of the same: equal argument lists and changes; then nothing is left to change."""
    shown = planned(str(model), *flags)
    stack, applied = bring_up(home, UpRequest(str(model), goal=goal), monkeypatch)
    assert stack.plan is not None
    assert shown["argv"] == list(stack.plan.argv)
    assert set(shown["argv"]) <= set(stack.server.argv)
    assert shown["units"] == applied
    again = planned(str(model), *flags)
    assert again["argv"] == shown["argv"]
    assert {change["kind"] for change in again["units"]} == {"same"}
    return stack


def test_up_does_what_plan_showed(home: Home, on_machine: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = agree(home, monkeypatch, model)
    assert stack.plan is not None
    names = [device.name for device in stack.plan.hardware.devices]
    assert names == [card["name"] for card in MACHINES[on_machine][0] if MACHINES[on_machine][1] is CUDA]
    assert stack.plan.hardware.ram.bandwidth_gbps == 60.0  # measured by whichever came first
    if on_machine == "one card":
        assert stack.plan.hardware.devices[0].link_gbps == 25.0


def test_pins_mean_the_same_to_both(home: Home, on_machine: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal(ctx=16384, kv_type="q8_0", parallel=2, pins={"ub": "1024"})
    flags = ("--ctx", "16384", "--kv-type", "q8_0", "--parallel", "2", "--set", "ub=1024")
    stack = agree(home, monkeypatch, model, goal, *flags)
    assert (stack.n_ctx, stack.n_ctx_slot, stack.n_parallel) == (32768, 16384, 2)
    assert stack.pins["-ub"] == "1024"


def test_after_tune_both_take_what_it_found(
    home: Home, on_machine: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = agree(home, monkeypatch, model)
    assert before.plan is not None
    identity = open_model(model).identity
    found = {"-ub": "256", "-t": "6"}
    tuned.remember(
        home,
        tuned.make(
            identity, before.server.engine, before.plan.hardware, found, gain=0.1, goal="session", trials=9, at=0.0
        ),
    )
    stack = agree(home, monkeypatch, model)
    assert ("-ub", "256") in zip(stack.server.argv, stack.server.argv[1:], strict=False)
    assert stack.pins == {}  # they are not the user's own


def test_while_another_model_runs_both_plan_for_the_room_that_it_leaves(
    home: Home, on_machine: str, model: Path, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = plan_for(home, UpRequest(str(larger))).plan
    agree(home, monkeypatch, model)
    cards, engine = MACHINES[on_machine]
    full = [{**card, "free": 300, "processes": {os.getpid(): card["free"] - 300}} for card in cards]
    set_machine(monkeypatch, full, engine)
    stack = agree(home, monkeypatch, larger)
    assert stack.plan is not None
    assert stack.plan.assignment == free.assignment
    if full and engine is CUDA:
        assert stack.plan.assignment.ngl > 0


@pytest.mark.parametrize(
    "told", [None, {}, {os.getpid(): None}, {1: 20_000}], ids=["refused", "none", "unknown", "other"]
)
def test_where_the_driver_does_not_say_the_deployed_plan_does(
    home: Home, model: Path, larger: Path, monkeypatch: pytest.MonkeyPatch, told: dict[int, int | None] | None
) -> None:
    set_machine(monkeypatch, [RTX_4090], CUDA)
    stack = agree(home, monkeypatch, model)
    assert stack.plan is not None
    use = stack.plan.memory.devices[0]
    held = round(use.weights + use.context + use.compute)
    set_machine(monkeypatch, [{**RTX_4090, "free": 400, "processes": told}], CUDA)
    assert plan_for(home, UpRequest(str(larger))).hardware.devices[0].free_mib == 400 + held


def test_where_nobody_says_it_up_plans_once_more_when_the_old_server_has_stopped(
    home: Home, model: Path, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [RTX_4090], CUDA)
    idle = plan_for(home, UpRequest(str(larger))).plan
    agree(home, monkeypatch, model)
    set_machine(monkeypatch, [{**RTX_4090, "free": 400, "processes": None}], CUDA)
    shown = plan_for(home, UpRequest(str(larger))).plan
    assert shown.predicted.session_s > idle.predicted.session_s  # the driver's own part is not in any plan

    def stop(self: Still) -> None:
        set_machine(monkeypatch, [RTX_4090], CUDA)
        monkeypatch.setattr(Still, "status", lambda self: {})

    monkeypatch.setattr(Still, "stop", stop)
    stack, _ = bring_up(home, UpRequest(str(larger)), monkeypatch)
    assert stack.plan is not None
    assert stack.plan.argv == idle.argv


def test_a_stack_that_does_not_change_is_not_stopped_to_look_again(
    home: Home, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [RTX_3060], CUDA)
    before = agree(home, monkeypatch, larger)  # experts in RAM: more memory could make another plan of it
    set_machine(monkeypatch, [{**RTX_3060, "free": 400, "processes": None}], CUDA)
    monkeypatch.setattr(Still, "stop", lambda self: pytest.fail("it was stopped"))
    stack, _ = bring_up(home, UpRequest(str(larger)), monkeypatch)
    assert stack.services == before.services


def test_a_plan_made_on_less_memory_than_is_free_now_is_made_anew(
    home: Home, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [RTX_3060], CUDA)
    idle = plan_for(home, UpRequest(str(larger))).plan
    set_machine(monkeypatch, [{**RTX_3060, "free": 2500, "processes": {os.getpid(): 0}}], CUDA)  # a game
    squeezed = agree(home, monkeypatch, larger)
    set_machine(monkeypatch, [{**RTX_3060, "free": 11800 - 2000, "processes": {os.getpid(): 2000}}], CUDA)
    stack = agree(home, monkeypatch, larger)
    assert squeezed.plan is not None and stack.plan is not None
    assert stack.plan.assignment == idle.assignment != squeezed.plan.assignment


def test_what_others_hold_stays_theirs(home: Home, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, [RTX_3060, RTX_4090], CUDA)
    agree(home, monkeypatch, model)
    held = {os.getpid(): 3000, 1: 5000}
    set_machine(monkeypatch, [RTX_3060, {**RTX_4090, "free": 10_000, "processes": held}], CUDA)
    found = machine.this_machine(home)
    assert [device.free_mib for device in found.hardware.devices] == [11800, 13_000]


def test_the_server_s_ram_is_given_back_and_never_more_than_there_is(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [], CPU_ONLY)
    assert machine.this_machine(home).hardware.ram.available_mib == 56 * GIB
    agree(home, monkeypatch, model)
    memory = psutil.Process().memory_info()
    mib = (memory.rss - memory.shared) >> 20
    assert machine.this_machine(home).hardware.ram.available_mib == pytest.approx(56 * GIB + mib, abs=64)
    monkeypatch.setattr(hardware, "ram", lambda: Ram(64 * GIB, 64 * GIB - 1))
    assert machine.this_machine(home).hardware.ram.available_mib == 64 * GIB


def test_a_model_that_runs_keeps_its_plan_while_free_memory_moves(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [RTX_3060], CUDA)
    stack = agree(home, monkeypatch, model)
    set_machine(monkeypatch, [{**RTX_3060, "free": 9000}], CUDA)
    again = plan_for(home, UpRequest(str(model)))
    assert again.plan == stack.plan


def test_a_name_like_the_vendor_s_is_set_apart_by_both(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [], CPU_ONLY)
    path = shapes.renamed(shapes.qwen3_8b(), "claude-distill").write(tmp_path)
    stack = agree(home, monkeypatch, path)
    assert stack.model.name == "local-claude-distill"


@pytest.mark.parametrize("name", ["qwen3.6-27b", "gpt-oss-20b", "qwen3-coder-30b"])
def test_a_model_that_is_not_here_is_planned_in_the_size_that_up_downloads(
    home: Home, on_machine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled: list[ResolvedModel] = []

    class Enough(Exception):
        pass

    def pull(home: Home, files: ResolvedModel, **_: object) -> ResolvedModel:
        pulled.append(files)
        raise Enough

    shown = planned(name)
    monkeypatch.setattr(prepare, "pull", pull)
    with pytest.raises(Enough):
        prepare.prepare(home, UpRequest(name, without_card=True), lambda _: None)
    [files] = pulled
    source = files.sources[0]
    assert shown["argv"][:2] == ["-m", str(home.models / source.repo / source.file)]
    assert shown["argv"][2:4] == ["-a", name]
    assert [change["kind"] for change in shown["units"]] == ["added", "added"]


def test_another_machine_is_planned_without_what_is_known_of_this_one(
    home: Home, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [RTX_3060], CUDA)
    agree(home, monkeypatch, model)
    supposed = planned(str(model), "--vram", "24GiB", "--ram", "128GiB")
    assert "units" not in supposed
    assert supposed["hardware"]["devices"][0]["free_mib"] == 24 * GIB
    assert supposed["hardware"]["ram"]["total_mib"] == 128 * GIB
    assert stackfile.read(home) is not None


def test_a_machine_without_an_engine_is_planned_and_the_services_are_not_compared(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmstack.errors import MissingPart

    def none(home: Home) -> Engine:
        raise MissingPart("there is no engine on this machine")

    using(monkeypatch, FakeNvml([RTX_3060]))
    monkeypatch.setattr(machine, "find", none)
    monkeypatch.setattr(prepare, "find", none)
    assert "units" not in planned(str(model))
    with pytest.raises(MissingPart):
        prepare.prepare(home, UpRequest(str(model)), lambda _: None)


def test_nothing_deployed_and_no_model_says_how_to_begin(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmstack.errors import BadInput

    set_machine(monkeypatch, [], CPU_ONLY)
    with pytest.raises(BadInput, match="which model"):
        plan_for(home, UpRequest())


def test_a_model_of_one_s_own_that_is_called_demo_is_no_demo_model(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machine(monkeypatch, [], CPU_ONLY)
    path = shapes.renamed(shapes.qwen3_8b(), "demo").write(tmp_path)
    stack = agree(home, monkeypatch, path)
    assert stack.model.name == "demo"
    assert plan_for(home, UpRequest()).subject.files.path == path


def test_up_without_a_model_brings_back_what_was_asked_for_and_says_nothing(
    home: Home, on_machine: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = Goal(ctx=16384, kv_type="q8_0", parallel=2, pins={"ub": "1024"})
    before, _ = bring_up(home, UpRequest(str(model), goal=goal), monkeypatch)
    prepared = prepare.prepare(home, UpRequest(), lambda _: None)
    assert prepared.deployment.plan.argv == before.plan.argv if before.plan is not None else False
    assert not any("asked for before" in sentence for sentence in prepared.warnings)
    changed = prepare.prepare(home, UpRequest(goal=Goal(ctx=8192)), lambda _: None)
    assert changed.deployment.asked is not None
    assert (changed.deployment.asked.ctx, changed.deployment.asked.parallel) == (8192, 2)


def test_naming_the_model_anew_says_what_is_given_up_thereby(
    home: Home, on_machine: str, model: Path, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = Goal(ctx=16384, kv_type="q8_0", vision=False, pins={"ub": "1024"})
    bring_up(home, UpRequest(str(model), goal=goal), monkeypatch)
    (told,) = (
        text for text in prepare.prepare(home, UpRequest(str(model)), lambda _: None).warnings if "any more" in text
    )
    for option in ("--ctx 16384", "--kv-type q8_0", "--no-vision", "--set ub=1024", "llmstack up"):
        assert option in told
    same = prepare.prepare(home, UpRequest(str(model), goal=goal), lambda _: None)
    other = prepare.prepare(home, UpRequest(str(larger)), lambda _: None)
    assert not any("any more" in text for text in (*same.warnings, *other.warnings))


def test_a_restart_whose_model_file_is_gone_stops_nothing(
    home: Home, on_machine: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_up(home, UpRequest(str(model)), monkeypatch)
    monkeypatch.setattr(Still, "restart", lambda *_: pytest.fail("it was stopped"))
    model.unlink()
    for names in ((), ("server",)):
        with pytest.raises(NotSo, match="the model file is gone"):
            apply.restart(home, names, lambda _: None)
