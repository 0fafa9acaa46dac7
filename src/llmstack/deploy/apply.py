"""`up`, `down` and `restart`: all or nothing. What fails puts the previous stack back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from llmstack import stackfile
from llmstack.commands import command_line
from llmstack.deploy import keys, observe, ports, tools_shown, transaction, warm
from llmstack.deploy.addresses import wanted_ports
from llmstack.deploy.demo_model import prune_demo_models
from llmstack.deploy.health import check
from llmstack.deploy.outdated import outdated_supervisor
from llmstack.deploy.ready import wait_ready
from llmstack.deploy.routes_in_force import out_of_force
from llmstack.deploy.services import Addresses, stack_services
from llmstack.deploy.supervisors import (
    chosen,
    keeps_edited,
    notices,
    of_kind,
    others,
    preview,
    put_back,
    start_alone,
    supervisor_for,
)
from llmstack.deploy.transaction import Previous
from llmstack.deploy.waiting import load_s, wait_until
from llmstack.detect.model_file import ModelFile
from llmstack.engine.find import Engine
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.plan import Goal, Plan
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord
from llmstack.supervisor import Supervisor

OnProgress = Callable[[str], None]

PROXY_DEADLINE_S = 30.0
LOCK_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A plan and where to run it: the very plan that was shown to the user.

    name: what clients call the model. model: the files as they were planned; `up` refuses when they are others by
    then. inputs: a digest of what the plan was made from. asked: what the user wants, before anything was added to it.
    again: plans once more when the old server has stopped, where nobody can say before how much of a card it holds.
    """

    name: str
    model: ModelFile
    plan: Plan
    engine: Engine
    inputs: str = ""
    addresses: Addresses = field(default_factory=Addresses)
    asked: Goal | None = None
    again: Callable[[], Deployment] | None = None


@dataclass(frozen=True, slots=True)
class UpResult:
    """started: the services that were (re)started; seconds: from the first write to the end of the health check.

    notices: what was left as it was, and what the model cannot do, a sentence each.
    """

    stack: StackRecord
    started: tuple[str, ...]
    seconds: float
    notices: tuple[str, ...] = ()


def up(home: Home, deployment: Deployment, on_progress: OnProgress, *, force: bool = False) -> UpResult:
    """Makes the stack run and proves that it answers. Raises StackError; the previous stack then runs again.

    Killed at any point, it is recovered by the next `up`: see `transaction`. force: replace units edited by hand.
    """
    with deploy_lock(home):
        began = time.monotonic()
        supervisor = chosen(home, force=force)
        stack = record_of(home, deployment, supervisor.kind)
        _check_ports(home, deployment, supervisor)
        preview(supervisor, stack.services)
        deployment.model.check_unchanged()
        home.make()
        keys.ensure(home)
        previous = transaction.begin(home)
        try:
            _save(home, previous.stack, stack, on_progress)
            changes = previous.stack is not None and previous.stack.services != stack.services
            if deployment.again is not None and previous.ran and changes:
                on_progress("stopping the old server, to see how much memory is free without it")
                supervisor_for(home).stop()
                deployment = deployment.again()
                stack = record_of(home, deployment, supervisor.kind)
            stackfile.write(home, stack)
            warm.make_folder(stack)
            for other in others(home, supervisor):
                other.remove()  # it must let go of the ports first
            started_at = time.time()
            started = supervisor.apply(stack.services)
            _wait(supervisor, stack, started, started_at, deployment.model.size_bytes, on_progress)
            on_progress("comparing what the engine did with the plan")
            stack = _compared(home, stack, supervisor)
            stack, blind = tools_shown.look(home, stack)
            on_progress("checking prefill and prompt cache")
            stack = msgspec.structs.replace(stack, health=check(home, stack))
            stackfile.write(home, stack)
            if "server" in started:
                on_progress("warming the prompt cache")
                warm.restore(home, stack)  # the check has used the slots
        except BaseException:
            put_back_previous(home, supervisor, previous, on_progress)
            raise
        stackfile.write_alone(home, None)
        transaction.end(home)
        prune_demo_models(home, deployment.model.path)
        return UpResult(stack, started, time.monotonic() - began, (*blind, *notices(supervisor), *out_of_force(home)))


def _compared(home: Home, stack: StackRecord, supervisor: Supervisor) -> StackRecord:
    """The record with the engine's own figures. Raises NotSo where it did not do what was planned; a unit that the
    user edited is the user's plan."""
    if keeps_edited(supervisor, "server"):
        return observe.with_served(stack, observe.observed(home, stack, supervisor))
    return observe.require(home, stack, supervisor)


def down(home: Home, on_progress: OnProgress = lambda step: None) -> bool:
    """Stops both services. False when nothing was running."""
    with deploy_lock(home):
        supervisor = supervisor_for(home)
        was_running = transaction.runs(supervisor)
        if was_running:
            on_progress("saving what the server holds")
            warm.save(home, stackfile.read(home))
            on_progress("stopping the services")
        supervisor.stop()
        return was_running


def restart(home: Home, names: tuple[str, ...], on_progress: OnProgress) -> StackRecord:
    """Restarts services and waits until they answer. Raises NotSo when nothing is deployed."""
    with deploy_lock(home):
        stack = stackfile.read(home)
        if stack is None:
            raise NotSo(
                "nothing is deployed yet", next=f"{command_line('up', 'MODEL')}   or   {command_line('up', '--demo')}"
            )
        if not names or "server" in names:
            require_file(stack)
        supervisor = supervisor_for(home)
        names = names or tuple(service.name for service in stack.services)
        on_progress("saving what the server holds")
        warm.save(home, stack)
        warm.make_folder(stack)
        if set(names) == {service.name for service in stack.services}:
            renew_supervisor(home, supervisor)
        started_at = time.time()
        started = supervisor.apply(stack.services)
        rest = [name for name in names if name not in started]
        if rest:
            supervisor.restart(rest)
        _wait(supervisor, stack, (*started, *names), started_at, _size(stack.model.path), on_progress)
        if "server" in (*started, *names):
            stack = observe.require(home, stack, supervisor)
            stackfile.write(home, stack)
            on_progress("warming the prompt cache")
            warm.restore(home, stack)
        return stack


def renew_supervisor(home: Home, supervisor: Supervisor) -> None:
    """Before all services are restarted: one of ours that runs files from before an update ends, and comes anew."""
    if supervisor.kind == "process" and outdated_supervisor(home) is not None:
        supervisor.stop()


def require_file(stack: StackRecord) -> None:
    """Before a server that runs is stopped. Raises NotSo when it could not come back."""
    if not Path(stack.model.path).is_file():
        raise NotSo(
            f"the model file is gone: {stack.model.path}",
            why="the server that runs now has it open, and could not load it again",
            next=f"put it back, or: {command_line('up', 'MODEL')}   takes another; {command_line('models', 'list')}   "
            "shows what there is",
        )


def _save(home: Home, running: StackRecord | None, target: StackRecord, on_progress: OnProgress) -> None:
    """Before a running server is replaced, what its slots hold goes to disk."""
    if running is not None and running.services != target.services:
        on_progress("saving what the server holds")
        warm.save(home, running)


def _wait(
    supervisor: Supervisor,
    stack: StackRecord,
    started: Collection[str],
    started_at: float,
    model_bytes: int,
    on_progress: OnProgress,
) -> None:
    """Both services answer. One that was just started has no deaths yet; an older one's do not count.

    started_at: before the first of them was told to start, in seconds since the epoch.
    """
    deaths = {name: 0 if name in started else status.restarts for name, status in supervisor.status().items()}
    waits = (
        ("proxy", stack.proxy.url, PROXY_DEADLINE_S, "starting the proxy"),
        ("server", stack.server.url, 60.0 + load_s(model_bytes), f"loading {stack.model.name}"),
    )
    for name, url, deadline_s, progress in waits:
        on_progress(progress)
        before = deaths.get(name, 0)
        wait_ready(supervisor, name, url, deadline_s=deadline_s, deaths_before=before, started_at=started_at)


def put_back_previous(home: Home, supervisor: Supervisor, previous: Previous, on_progress: OnProgress) -> None:
    """The services, their units and the record as they were; a second failure must not hide the first.

    Where that fails too, the transaction stays, and the next `up` goes back to the same stack.
    """
    try:
        if previous.stack is None:
            supervisor.remove()
            home.stack.unlink(missing_ok=True)
        else:
            stackfile.write(home, previous.stack)
            old = of_kind(home, previous.stack.supervisor)
            for other in others(home, old):
                other.remove()
            if previous.ran:
                on_progress("putting the previous stack back")
            started_at = time.time()
            put_back(old, previous.stack.services, previous.units, run=previous.ran)
            if previous.ran:
                _wait(old, previous.stack, (), started_at, _size(previous.stack.model.path), lambda _: None)
        stackfile.write_alone(home, previous.alone)
        if previous.alone is not None and previous.alone_ran:
            old = of_kind(home, previous.alone.supervisor)
            start_alone(old, previous.alone.service)
            wait_ready(old, "proxy", previous.alone.proxy.url, deadline_s=PROXY_DEADLINE_S)
        transaction.end(home)
    except Exception as error:
        on_progress(f"the previous stack did not come back: {error}")


def _check_ports(home: Home, deployment: Deployment, supervisor: Supervisor) -> None:
    everyone = (supervisor, *others(home, supervisor))
    ours = [status.pid for one in everyone for status in one.status().values() if status.pid]
    at = deployment.addresses
    server = ports.WantedPort("server", at.server_host, at.server_port, "--server-port")
    ports.check_free((*wanted_ports(at.proxy), server), ours=ours)


def record_of(home: Home, deployment: Deployment, supervisor: str) -> StackRecord:
    """What `up` writes down of a deployment. supervisor: its kind."""
    plan, at = deployment.plan, deployment.addresses
    server, proxy = stack_services(home, deployment.engine, plan, at)
    a = plan.assignment
    return StackRecord(
        model=ModelEntry(deployment.name, str(deployment.model.path)),
        server=ServerEntry(at.server_host, at.server_port, deployment.engine.name, server.argv),
        proxy=at.proxy,
        n_ctx=a.ctx,
        n_ctx_slot=plan.n_ctx_slot,
        n_parallel=a.parallel,
        n_predict=plan.goal.n_predict,
        supervisor=supervisor,
        services=(server, proxy),
        capabilities={"vision": bool(plan.goal.mmproj_path)},
        recurrent=plan.facts.recurrent,
        sliding_window=plan.facts.has_window and not a.swa_full,
        keeps_checkpoints=deployment.engine.keeps_checkpoints and a.checkpoints > 0,
        stored_plan=stackfile.stored(plan),
        stored_goal=stackfile.stored(deployment.asked),
        pins={decision.flag: decision.value for decision in plan.decisions if decision.pinned},
        inputs=deployment.inputs,
    )


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def deploy_lock(home: Home) -> Iterator[None]:
    """One `up`, `down` or `restart` at a time. Raises NotSo when another one holds on for LOCK_WAIT_S."""
    descriptor = _open_lock(home)
    try:
        if wait_until(lambda: _locked(descriptor), LOCK_WAIT_S, every_s=0.1) is None:
            raise NotSo(
                "another llmstack command is changing this stack", next="wait for it to end, then run this again"
            )
        while not _is_in_place(home, descriptor):  # `uninstall` has ended meanwhile, and took it along
            os.close(descriptor)
            descriptor = _open_lock(home)
            if _locked(descriptor) is None:
                raise NotSo("another llmstack command is changing this stack", next="run this again")
        yield
    finally:
        os.close(descriptor)


def _open_lock(home: Home) -> int:
    home.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(home.deploy_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_in_place(home: Home, descriptor: int) -> bool:
    try:
        return os.path.samestat(home.deploy_lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _locked(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True
