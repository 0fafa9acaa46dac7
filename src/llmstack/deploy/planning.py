"""The only way from a request to a plan. `plan` stops behind it, `up` goes on: both get the same value."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llmstack import __version__
from llmstack.catalog.shape_check import difference_sentence, differences
from llmstack.commands import command_line
from llmstack.deploy.demo_model import DEMO_NAME, ensure_demo_model, is_demo_model
from llmstack.deploy.known_headers import KnownHeaders
from llmstack.deploy.model_goal import with_drafter, with_entry, with_template
from llmstack.deploy.projector import is_here, with_projector
from llmstack.engine.environment import device_environment
from llmstack.errors import BadInput
from llmstack.fetch.find_local import entry_of_file, is_listed, locate, own_path
from llmstack.fetch.header_cache import header_read_before
from llmstack.fetch.model import ResolvedModel
from llmstack.hardware import Hardware
from llmstack.paths import Home
from llmstack.plan import Goal, Infeasible, ModelFacts, Plan, make_plan, read_facts

# What looks at this machine, its engine and its stack is loaded where it is needed: a plan for another is quick.
if TYPE_CHECKING:
    from llmstack.catalog.models import Model
    from llmstack.deploy.machine_record import Machine
    from llmstack.detect.model_file import ModelFile
    from llmstack.engine.find import Engine
    from llmstack.gguf import GgufHeader

MORE_SHARE = 32  # one part in so many of the memory: what other programs take and give back
WORTH_A_RESTART = 0.97
SAID = (
    "ctx",
    "kv_type",
    "parallel",
    "vision",
    "mmproj_path",
    "keep_free_mib",
)  # what a user may leave open in a goal, besides pins


@dataclass(frozen=True, slots=True)
class UpRequest:
    """What the command line says. model None: the one that is deployed. Ports, hosts None: as deployed, else
    the defaults. name: what clients call the model; empty: as the model itself is called. without_card: a model is
    downloaded though the engine can't use a card that is here. tls_files: certificate and key; ("", "") for none."""

    model: str | None = None
    demo: bool = False
    goal: Goal = field(default_factory=Goal)
    proxy_host: str | None = None
    proxy_port: int | None = None
    server_port: int | None = None
    offline: bool = False
    allow_hosts: tuple[str, ...] | None = None
    without_card: bool = False
    name: str = ""
    tls_files: tuple[str, str] | None = None
    tls_port: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The model of a request. name: what clients call it. files: where it is, or where it would come from."""

    name: str
    files: ResolvedModel

    @property
    def entry(self) -> Model | None:
        """What the catalog says of it."""
        return self.files.entry


@dataclass(frozen=True, slots=True)
class Planned:
    """model: its files as they were planned, None while they are not here. engine: None where there is none to use.

    hardware: what was planned for. digest: of what the plan was made from.
    """

    plan: Plan
    subject: Subject
    model: ModelFile | None
    engine: Engine | None
    hardware: Hardware
    digest: str
    warnings: tuple[str, ...] = ()


def plan_for(
    home: Home, request: UpRequest, machine: Machine | None = None, on_progress: Callable[[str], None] = lambda _: None
) -> Planned:
    """The plan that `up` would carry out for this request. Downloads nothing but headers; starts nothing.

    machine: this one unless another is given; a supposed one has no engine, and what was tuned here or runs here then
    counts for nothing. A model that is not here is planned from the catalog's dimensions, or from its header, which is
    read from its server, with the path that it would get. Raises StackError, Infeasible among them.
    """
    if machine is None:
        from llmstack.deploy.machine import this_machine

        machine = this_machine(home, on_progress)
    request = resumed(home, request)
    on_progress("looking at the model")
    subject = subject_of(home, request, machine.hardware, on_progress)
    on_progress("planning")
    return plan_subject(home, request, subject, machine)


def resumed(home: Home, request: UpRequest) -> UpRequest:
    """A request that names no model goes on with what the deployed stack was asked for: what is said anew replaces it,
    the rest stays."""
    if request.model is not None or request.demo:
        return request
    from llmstack import stackfile  # a plan for another machine needs none

    deployed = stackfile.read(home)
    before = deployed.goal if deployed is not None else None
    if before is None:
        return request
    new = request.goal
    changes = {name: value for name in SAID if (value := getattr(new, name)) not in (None, "")}
    return replace(request, goal=replace(before, pins={**before.pins, **new.pins}, **changes))


def given_up(home: Home, request: UpRequest, path: Path) -> str:
    """A sentence on what was asked for of this very model before, and is not said any more; empty where nothing is."""
    from llmstack import stackfile

    deployed = stackfile.read(home)
    before = deployed.goal if deployed is not None and Path(deployed.model.path) == path else None
    if before is None or (request.model is None and not request.demo):
        return ""
    new = request.goal
    options = [
        _option(name, value)
        for name in SAID
        if (value := getattr(before, name)) not in (None, "") and getattr(new, name) in (None, "")
    ]
    options += [f"--set {flag}={value}" for flag, value in before.pins.items() if flag not in new.pins]
    if not options:
        return ""
    how = f"{command_line('up')}   without a model keeps what was asked for"
    return f"what was asked for before is not any more: {', '.join(options)} ({how})"


def _option(name: str, value: Any) -> str:
    """As the command line says it."""
    flag = name.removesuffix("_path").removesuffix("_mib").replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}{'MiB' if name.endswith('_mib') else ''}"


def subject_of(
    home: Home, request: UpRequest, hardware: Hardware, on_progress: Callable[[str], None] = lambda _: None
) -> Subject:
    """Which model is meant; a catalog model that is not here, in the size that suits this machine."""
    if request.model is not None and not request.demo:
        files = locate(home, request.model)
        if files.path is None:
            from llmstack.fetch.survey import suited  # it plans each size of the catalog's model

            files = suited(home, request.model, files, hardware, KnownHeaders(home))
        is_demo = files.path is not None and is_demo_model(home, files.path)
        return Subject(DEMO_NAME if is_demo else request.name or served_name(files.name), files)
    from llmstack import stackfile

    deployed = stackfile.read(home)
    if request.demo or (deployed is not None and is_demo_model(home, Path(deployed.model.path))):
        on_progress("writing the demo model")
        path = ensure_demo_model(home)
        return Subject(DEMO_NAME, ResolvedModel(DEMO_NAME, path, paths=(path,)))
    if deployed is None:
        raise BadInput(
            "which model?",
            why="nothing is deployed yet, so there is none to start again",
            next=(
                f"{command_line('up', '--demo')}   tries the stack; "
                f"{command_line('models', 'list')}   shows what fits this machine"
            ),
        )
    path = Path(deployed.model.path)
    listed = entry_of_file(home, path)
    return Subject(deployed.model.name, ResolvedModel(path.stem, path, listed[1] if listed else None, paths=(path,)))


def served_name(name: str) -> str:
    """The name clients use. One that starts like the vendor's own models would get those models' limits from
    Claude Code, so it is set apart."""
    return f"local-{name}" if name.lower().startswith(("claude", "anthropic")) else name


def plan_subject(home: Home, request: UpRequest, subject: Subject, machine: Machine, *, alone: bool = False) -> Planned:
    """alone: without a draft model, though the catalog names one."""
    hardware, engine = machine.hardware, machine.engine
    model: ModelFile | None = None
    if subject.files.path is not None:
        from llmstack.detect.model_file import open_model

        model = open_model(subject.files.path, cache=home.cache)
        facts = read_facts(model.header, path=str(model.path))
        header: GgufHeader | None = model.header
    else:
        subject, header, facts = _from_afar(home, subject, offline=request.offline)
    user_goal = with_template(home, request.goal)
    keeps = engine is not None and engine.keeps_checkpoints
    goal = with_entry(replace(user_goal, alias=subject.name, keeps_checkpoints=keeps), subject.entry)
    goal = with_drafter(home, goal, subject.entry, offline=request.offline)
    if alone:
        goal = replace(goal, draft=None)
    goal, passed_over = with_projector(home, goal, subject.files, facts, offline=request.offline)
    warnings = machine.warnings + passed_over + _differing(subject, header)
    if engine is None or model is None:
        plan = _noted(make_plan(facts, hardware, goal, machine.spare), header)
        return Planned(plan, subject, model, engine, hardware, "", warnings=warnings)
    from llmstack.deploy import acceptance, kv_measured, tuned

    path = str(model.path)
    goal = replace(
        goal,
        kv_measured=kv_measured.of_model(home, path),
        accepts_block=acceptance.of_model(home, path, by_model=False),
        accepts_model=acceptance.of_model(home, path, by_model=True),
    )
    goal = tuned.with_tuned(home, goal, model.identity, hardware, engine.name)
    digest = _digest(model, engine, goal, hardware)
    deployed = _deployed(home, digest) if machine.serves else None
    if deployed is not None and not _has_more_room(hardware, deployed):
        return Planned(deployed, subject, model, engine, hardware, digest, warnings=warnings)
    plan = tuned.explained(home, _tuned_plan(facts, machine, goal, user_goal), model.identity, engine.name)
    plan = _noted(plan, header)
    if deployed is not None and not _is_better(plan, deployed):
        plan = deployed
    return Planned(plan, subject, model, engine, hardware, digest, warnings=warnings)


def _has_more_room(hardware: Hardware, deployed: Plan) -> bool:
    """Whether more memory is free now than when the plan was made, by more than what comes and goes by the minute."""
    before = [(device.free_mib, device.total_mib) for device in deployed.hardware.devices] or [(0, 0)]
    now = [device.free_mib for device in hardware.devices] or [0]
    more = any(mib - free > total // MORE_SHARE for mib, (free, total) in zip(now, before, strict=False))
    ram = hardware.ram
    return more or ram.available_mib - deployed.hardware.ram.available_mib > ram.total_mib // MORE_SHARE


def _is_better(plan: Plan, deployed: Plan) -> bool:
    """Whether a restart would bring what a person notices: more context, or a session that is shorter by 3 %."""
    if plan.assignment.ctx != deployed.assignment.ctx:
        return plan.assignment.ctx > deployed.assignment.ctx
    return plan.predicted.session_s < WORTH_A_RESTART * deployed.predicted.session_s


def _from_afar(home: Home, subject: Subject, *, offline: bool) -> tuple[Subject, GgufHeader | None, ModelFacts]:
    """A model that is not here: by its header where that was read before, else as the catalog describes it, else by its
    header, read from its server.

    The header is None for a description: it has no template to look at.
    """
    files = subject.files
    real = header_read_before(home.cache, files.sources)
    if real is not None:
        header = real
    elif files.entry is not None and files.entry.shape and (offline or is_listed(files)):
        from llmstack.catalog.shape import describe

        header = describe(files.name, files.entry, files.quant)
    else:
        from llmstack.fetch.remote import remote_header

        files, header = remote_header(files, offline=offline, cache=home.cache)
        real = header
        subject = Subject(served_name(files.name), files)
    path = own_path(home, files.sources[0]) if files.sources else Path(f"{files.name}.gguf")
    return subject, real, read_facts(header, path=str(path))


def _differing(subject: Subject, header: GgufHeader | None) -> tuple[str, ...]:
    """What the catalog's dimensions of this very file are not."""
    entry = subject.entry
    if header is None or entry is None or subject.files.quant not in entry.sizes():
        return ()
    sentence = difference_sentence(f"{subject.name}:{subject.files.quant}", differences(entry, header))
    return (f"{sentence}; it is planned by its file",) if sentence else ()


def _noted(plan: Plan, header: GgufHeader | None) -> Plan:
    """With a note where the template shows no tools; the catalog's description of a file has no template to look at."""
    if header is None and not plan.goal.chat_template_file:
        return plan
    from llmstack.deploy import tools_shown

    return tools_shown.noted(plan, header)


def _tuned_plan(facts: ModelFacts, machine: Machine, goal: Goal, user_goal: Goal) -> Plan:
    try:
        return make_plan(facts, machine.hardware, goal, machine.spare)
    except Infeasible:
        if goal.pins == user_goal.pins:
            raise
        goal = replace(goal, pins=user_goal.pins)  # what was tuned fits no longer
        return make_plan(facts, machine.hardware, goal, machine.spare)


def _deployed(home: Home, digest: str) -> Plan | None:
    """The plan that runs, if it was made from the same: free memory changes by the minute and is no reason to move."""
    from llmstack import stackfile

    deployed = stackfile.read(home)
    return deployed.plan if deployed is not None and deployed.inputs == digest else None


def _digest(model: ModelFile, engine: Engine, goal: Goal, hardware: Hardware) -> str:
    """What a plan depends on, less what changes by the minute: a second `up` with the same digest changes nothing.

    A draft model or an image encoder counts once it is here: until then no plan that runs uses it.
    """
    image: Any = None
    if goal.projector is not None:
        if is_here(goal.projector):
            from llmstack.detect.model_file import open_model

            image = open_model(goal.projector.path, takes="projector").identity
        else:
            goal = replace(goal, projector=None, mmproj_path="")
    if goal.draft is not None and not Path(goal.draft.path).is_file():
        goal = replace(goal, draft=None)
    machine = (
        [(d.id, d.name, d.backend, d.total_mib) for d in hardware.devices],
        hardware.ram.total_mib,
        hardware.ram.limit_mib,
        device_environment(os.environ),
    )
    measured = (hardware.measured, hardware.ram.bandwidth_gbps)
    parts: Any = (
        __version__,
        model.identity,
        image,
        engine.command,
        engine.version,
        goal,
        machine,
        hardware.cpu,
        measured,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
