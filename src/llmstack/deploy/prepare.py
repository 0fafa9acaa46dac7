"""From a request to what should run: the model's files are brought here, then planned. Nothing is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from llmstack.commands import again, command_line, typed_words
from llmstack.deploy.addresses import addresses_of
from llmstack.deploy.apply import Deployment
from llmstack.deploy.machine import refuse_without_card, this_machine
from llmstack.deploy.planning import (
    Planned,
    Subject,
    UpRequest,
    given_up,
    plan_subject,
    resumed,
    served_name,
    subject_of,
)
from llmstack.deploy.projector import is_here
from llmstack.deploy.services import stack_services
from llmstack.deploy.supervisors import chosen, preview
from llmstack.engine.find import Engine, find
from llmstack.errors import MissingPart, NotSo, StackError
from llmstack.fetch import hub
from llmstack.fetch.find_local import drafter_of
from llmstack.fetch.model import ResolvedModel
from llmstack.fetch.progress import OnTransfer, quiet
from llmstack.fetch.pull import pull, pull_file, with_listing
from llmstack.fetch.remote import remote_header
from llmstack.llama_server.flags import pinnable_flag
from llmstack.paths import Home
from llmstack.plan import Goal, Plan
from llmstack.units import UnitDiff


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deployment that is complete. warnings: a sentence each."""

    deployment: Deployment
    warnings: tuple[str, ...]


def prepare(
    home: Home,
    request: UpRequest,
    on_progress: Callable[[str], None],
    on_download: OnTransfer = quiet,
    engine: Engine | None = None,
) -> Prepared:
    """Downloads what is missing, and plans. engine: the one in use unless another is given.

    Raises StackError, Infeasible among them.
    """
    request = resumed(home, request)
    addresses = addresses_of(home, request)  # refused before anything is downloaded
    machine = this_machine(home, on_progress, engine)
    engine = machine.engine or find(home)  # raises what is wrong with it
    subject = subject_of(home, request, machine.hardware, on_progress)
    if subject.files.path is None and not request.without_card:
        by_up = typed_words()[:1] == ("up",)
        go_on = again("up", "--cpu") if by_up else command_line("up", request.model or subject.name, "--cpu")
        refuse_without_card(machine, subject.name, go_on)
    subject = _pulled(home, request, subject, on_download)
    on_progress("planning")
    planned = plan_subject(home, request, subject, machine)
    problems: tuple[str, ...] = ()
    if _lacks_projector(planned):
        problem = pull_projector(home, planned, on_download)
        if problem:
            request = replace(request, goal=replace(request.goal, vision=False))
        planned = plan_subject(home, request, subject, machine)
        problems += (problem,) if problem else ()
    if _lacks_drafter(planned):
        problem = pull_drafter(home, planned.plan.goal, subject, on_download)
        planned = plan_subject(home, request, subject, machine, alone=bool(problem))
        problems += (problem,) if problem else ()
    left = given_up(home, request, planned.model.path) if planned.model is not None else ""
    warnings = planned.warnings + planned.plan.warnings + problems + ((left,) if left else ())
    assert planned.model is not None
    deployment = Deployment(
        name=planned.subject.name,
        model=planned.model,
        plan=planned.plan,
        engine=engine,
        inputs=planned.digest,
        addresses=addresses,
        asked=request.goal,
        again=_again(home, request, on_progress, engine) if machine.estimates and _is_squeezed(planned.plan) else None,
    )
    return Prepared(deployment, warnings)


def _again(
    home: Home, request: UpRequest, on_progress: Callable[[str], None], engine: Engine
) -> Callable[[], Deployment]:
    return lambda: prepare(home, request, on_progress, engine=engine).deployment


def _is_squeezed(plan: Plan) -> bool:
    """Whether more memory on the devices could make another plan of it."""
    a = plan.assignment
    whole = a.ngl > plan.facts.n_layer_all and not (a.nkvo or a.ncmoe or a.ncffn)
    return not whole or sum(share > 0 for share in a.split) > 1


def changes(home: Home, request: UpRequest, planned: Planned) -> UnitDiff | None:
    """What `up` would change in the services; None where it cannot be said (no engine yet, a foreign unit)."""
    if planned.engine is None:
        return None
    try:
        services = stack_services(home, planned.engine, planned.plan, addresses_of(home, request))
        return preview(chosen(home), services)
    except StackError:
        return None


def _pulled(home: Home, request: UpRequest, subject: Subject, on_download: OnTransfer) -> Subject:
    """The image encoder comes when the plan takes it (`pull_projector`)."""
    files = _checked(home, subject.files, offline=request.offline)
    if not (request.offline or hub.offline()):
        files = with_listing(files)  # a file that was named alone may have an image encoder in its repository
    files = pull(home, files, offline=request.offline, on_progress=on_download, projector=False)
    if files.path is None:
        raise NotSo(f"{files.name} runs on an engine elsewhere, so there is nothing to start here",
                    next=command_line("models", "show", files.name))  # fmt: skip
    return subject if files is subject.files else Subject(request.name or served_name(files.name), files)


def _checked(home: Home, files: ResolvedModel, *, offline: bool) -> ResolvedModel:
    """A stranger's file is looked at before gigabytes of it are downloaded. Raises GgufError for what is no model."""
    if files.path is not None or files.entry is not None or offline or hub.offline():
        return files
    try:
        return remote_header(files, cache=home.cache)[0]
    except MissingPart:  # its server gives no parts: the header is read when all of it is here
        return files


def _lacks_drafter(planned: Planned) -> bool:
    """Whether the plan guesses ahead with a draft model that is not on this machine yet."""
    draft = planned.plan.goal.draft
    return planned.plan.assignment.model_guesses > 0 and draft is not None and not Path(draft.path).is_file()


def _lacks_projector(planned: Planned) -> bool:
    """Whether the plan reads images with an encoder that is not on this machine yet."""
    projector = planned.plan.goal.projector
    return projector is not None and not is_here(projector)


def pull_projector(home: Home, planned: Planned, on_download: OnTransfer = quiet) -> str:
    """Brings the image encoder here. Returns why it cannot be had, empty when it is here: the model runs without.

    Raises MissingPart when images were asked for.
    """
    source = planned.subject.files.projector
    assert source is not None
    try:
        pull_file(home, source, planned.subject.name, on_download)
    except MissingPart as error:
        if planned.plan.goal.vision:
            raise
        return f"{planned.subject.name} will not read images: {error.what}"
    return ""


def pull_drafter(home: Home, goal: Goal, subject: Subject, on_download: OnTransfer = quiet) -> str:
    """Brings the draft model here. Returns why it cannot be had, empty when it is here: the large one runs without.

    Raises MissingPart when the goal pins it.
    """
    source = drafter_of(subject.entry) if subject.entry is not None else None
    assert source is not None
    try:
        pull_file(home, source, subject.name, on_download)
    except MissingPart as error:
        if any(pin is not None and pin.name == "-md" for pin in map(pinnable_flag, goal.pins)):
            raise
        return f"{source.name} will not guess ahead: {error.what}"
    return ""
