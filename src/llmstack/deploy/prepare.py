"""From what a person asked for to what should run: model, engine, hardware, plan. Nothing is started here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from llmstack import __version__
from llmstack.catalog.models import Model
from llmstack.deploy import record, tuned
from llmstack.deploy.apply import Desired, Progress
from llmstack.deploy.demo_model import DEMO_NAME, ensure_demo_model
from llmstack.deploy.model_goal import with_drafter, with_entry
from llmstack.deploy.record import Stack
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect import calibration
from llmstack.detect.hardware import Detected, detect
from llmstack.detect.model_file import ModelFile, open_model
from llmstack.engine.find import Engine, devices_of, find
from llmstack.errors import BadInput, MissingPart
from llmstack.fetch import resolve
from llmstack.fetch.locate import drafter_of, entry_of_file
from llmstack.fetch.progress import Report, quiet
from llmstack.fetch.pull import pull_file
from llmstack.hardware import Hardware
from llmstack.llama_server.flags import pinnable_flag
from llmstack.paths import Home
from llmstack.plan import Facts, Goal, Infeasible, Plan, argv, make_plan, read_facts, to_json

PROXY_PORT, SERVER_PORT = 5000, 8080


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line said. model None: the one that is deployed. Ports None: as deployed, else the defaults."""

    model: str | None = None
    demo: bool = False
    goal: Goal = field(default_factory=Goal)
    proxy_host: str | None = None
    proxy_port: int | None = None
    server_port: int | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """desired is complete; plan is None when the running stack's own plan is kept. warnings: a sentence each."""

    desired: Desired
    plan: Plan | None
    warnings: tuple[str, ...]


def prepare(home: Home, ask: Ask, progress: Progress, report: Report = quiet) -> Prepared:
    """Finds (and if need be downloads) the model, reads it, and plans it. Raises StackError, Infeasible among them."""
    deployed = record.read(home)
    engine = find(home)
    name, model, entry = _model(home, ask, deployed, engine, progress, report)
    detected = for_engine(detect(), engine)
    progress("looking at what was measured on this machine")
    known = calibration.apply(calibration.ensure(home, detected.hardware), detected.hardware, engine.name)
    detected = replace(detected, hardware=known)
    goal = with_drafter(home, with_entry(replace(ask.goal, alias=name), entry), entry, offline=ask.offline)
    goal = tuned.with_tuned(home, goal, model.identity, known, engine.name)
    inputs = _digest(model, engine, goal, detected.hardware)
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    if deployed is not None and deployed.inputs == inputs and _serves(home):
        planned, plan_argv = deployed.plan, tuple(deployed.plan.get("argv", ()))
    else:
        progress("planning")
        facts, machine = read_facts(model.header, path=str(model.path)), with_own_memory(home, detected.hardware)
        plan = _plan(facts, machine, goal, ask)
        if entry is not None and _lacks_drafter(plan):
            goal, warnings = _with_pulled(home, goal, entry, name, report)
            inputs = _digest(model, engine, goal, detected.hardware)
            plan = _plan(facts, machine, goal, ask)
        plan = tuned.explained(home, plan, model.identity, engine.name)
        planned, plan_argv = to_json(plan), argv(plan)
    ports = (deployed.proxy.port, deployed.server.port) if deployed else (PROXY_PORT, SERVER_PORT)
    n_ctx, n_parallel = _number(plan_argv, "-c"), _number(plan_argv, "-np") or 1
    desired = Desired(
        model_name=name,
        model_path=model.path,
        model_bytes=model.size_bytes,
        plan_argv=plan_argv,
        plan=planned,
        inputs=inputs,
        engine=engine,
        n_ctx=n_ctx,
        n_ctx_slot=n_ctx if "-kvu" in plan_argv else n_ctx // n_parallel,
        n_parallel=n_parallel,
        n_predict=_number(plan_argv, "-n"),
        vision=bool(goal.mmproj_path),
        proxy_host=ask.proxy_host or (deployed.proxy.host if deployed else "127.0.0.1"),
        proxy_port=ask.proxy_port or ports[0],
        server_port=ask.server_port or ports[1],
        model=model,
    )
    return Prepared(desired, plan, (*detected.warnings, *warnings))


def _plan(facts: Facts, machine: Hardware, goal: Goal, ask: Ask) -> Plan:
    try:
        return make_plan(facts, machine, goal)
    except Infeasible:
        if goal.pins == ask.goal.pins:
            raise
        return make_plan(facts, machine, replace(goal, pins=ask.goal.pins))  # what was tuned fits no longer


def _lacks_drafter(plan: Plan) -> bool:
    """Whether the plan guesses ahead with a model that is not on this machine yet."""
    second = plan.goal.draft
    return plan.assignment.model_guesses > 0 and second is not None and not Path(second.path).is_file()


def _with_pulled(home: Home, goal: Goal, entry: Model, name: str, report: Report) -> tuple[Goal, tuple[str, ...]]:
    """The goal with its second model pulled, or without it and a warning: the large one runs all the same."""
    source = drafter_of(entry)
    assert source is not None
    try:
        pull_file(home, source, name, report)
    except MissingPart as error:
        if any(pin is not None and pin.name == "-md" for pin in map(pinnable_flag, goal.pins)):
            raise
        return replace(goal, draft=None), (f"{source.name} will not guess ahead: {error.what}",)
    return with_drafter(home, goal, entry), ()


def _model(
    home: Home, ask: Ask, deployed: Stack | None, engine: Engine, progress: Progress, report: Report
) -> tuple[str, ModelFile, Model | None]:
    """The served name, the file and what the catalog says of it. A catalog model that is not here is downloaded in
    the size that suits this machine, as `plan` shows it; its image encoder only comes with a goal that names it."""
    if ask.demo:
        progress("writing the demo model")
        return DEMO_NAME, open_model(ensure_demo_model(home)), None
    if ask.model is None:
        if deployed is None:
            raise BadInput(
                "which model?",
                why="nothing is deployed yet, so there is none to start again",
                next="llmstack up --demo   tries the stack; llmstack models list   shows what fits this machine",
            )
        if deployed.model.name == DEMO_NAME:
            return DEMO_NAME, open_model(ensure_demo_model(home)), None
        model = open_model(deployed.model.path)
        known = entry_of_file(home, model.path)
        return deployed.model.name, model, known[1] if known else None
    hardware = for_engine(detect(), engine).hardware
    found = resolve(home, ask.model, offline=ask.offline, progress=report, projector=False, hardware=hardware)
    assert found.path is not None
    return served_name(found.name), open_model(found.path), found.entry


def served_name(name: str) -> str:
    """The name clients use. One that starts like the vendor's own models would get those models' limits from
    Claude Code, so it is set apart."""
    return f"local-{name}" if name.lower().startswith(("claude", "anthropic")) else name


def for_engine(detected: Detected, engine: Engine) -> Detected:
    """Leaves out the cards that this engine cannot use, and says so: a plan for them would not come true."""
    found = with_engine_devices(detected, engine)
    usable = {backend.upper() for backend in engine.backends}
    devices = tuple(device for device in found.hardware.devices if device.backend.upper() in usable)
    if len(devices) == len(found.hardware.devices):
        return found
    unused = ", ".join(dict.fromkeys(d.name for d in found.hardware.devices if d not in devices))
    warning = (
        f"{unused} will not be used: the engine {engine.name} is built without it; llmstack engine install builds one"
    )
    return Detected(replace(found.hardware, devices=devices), (*found.warnings, warning))


def with_engine_devices(detected: Detected, engine: Engine) -> Detected:
    """NVML knows NVIDIA's cards only: those of AMD, Intel and Apple are asked of an engine that is built for them."""
    accelerates = {backend.lower() for backend in engine.backends} - {"cpu", "rpc", "blas"}
    if detected.hardware.devices or not accelerates:
        return detected
    return replace(detected, hardware=replace(detected.hardware, devices=devices_of(engine)))


def with_own_memory(home: Home, hardware: Hardware) -> Hardware:
    """Counts the RAM that our own running server holds as free: it goes when the new one comes."""
    import psutil

    held = 0
    for status in supervisor_for(home).status().values():
        if status.name == "server" and status.pid:
            try:
                memory = psutil.Process(status.pid).memory_info()
            except psutil.Error:
                continue
            held += (memory.rss - getattr(memory, "shared", 0)) >> 20
    ceiling = hardware.ram.limit_mib or hardware.ram.total_mib
    return replace(hardware, ram=replace(hardware.ram, available_mib=min(ceiling, hardware.ram.available_mib + held)))


def _serves(home: Home) -> bool:
    server = supervisor_for(home).status().get("server")
    return server is not None and server.pid is not None


def _digest(model: ModelFile, engine: Engine, goal: Goal, hardware: Hardware) -> str:
    """What a plan depends on, less what changes by the minute: a second `up` with the same digest changes nothing.

    A second model counts once it is here: until then no plan uses it.
    """
    if goal.draft is not None and not Path(goal.draft.path).is_file():
        goal = replace(goal, draft=None)
    machine = (
        [(d.name, d.backend, d.total_mib) for d in hardware.devices],
        hardware.ram.total_mib,
        hardware.ram.limit_mib,
    )
    measured = (hardware.measured, hardware.ram.bandwidth_gbps)
    parts: Any = (__version__, model.identity, engine.command, engine.version, goal, machine, hardware.cpu, measured)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _number(plan_argv: tuple[str, ...], flag: str) -> int:
    return int(plan_argv[plan_argv.index(flag) + 1]) if flag in plan_argv else 0
