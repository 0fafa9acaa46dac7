"""Proves another engine on the deployed model, and moves the stack to it; or goes back to the engine before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from llmstack import stackfile
from llmstack.bench.record import history
from llmstack.bench.run import pace_of
from llmstack.commands import command_line
from llmstack.deploy import transaction
from llmstack.deploy.apply import Deployment, down, restart, up
from llmstack.deploy.expected_speed import SMALLEST, expected_speed
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.prepare import prepare
from llmstack.deploy.services import Addresses
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect.hardware import detect
from llmstack.detect.model_file import open_model
from llmstack.engine.choose import previous, rollback, use
from llmstack.engine.find import Engine, named, usable
from llmstack.errors import NotSo, StackError
from llmstack.paths import Home, write_private
from llmstack.plan import Plan
from llmstack.stackfile import StackRecord
from llmstack.upgrade.examine import Examination, OnStep, examine, speeds
from llmstack.upgrade.proofs import Look, Proof, failed, in_doubt, judge
from llmstack.upgrade.toolset import Toolset, own, remembered
from llmstack.upgrade.trial import trial


@dataclass(frozen=True, slots=True)
class Upgraded:
    """before, after: names of engines. switched: whether the stack runs on `after` now. tools: whose were used.

    earlier: what the bench's history says of the deployed model (tokens/s by name of a quantity), empty without one.
    """

    before: str
    after: str
    proofs: tuple[Proof, ...]
    switched: bool
    tools: str
    earlier: dict[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "before": self.before,
            "after": self.after,
            "switched": self.switched,
            "tools": self.tools,
            "history": self.earlier,
            "proofs": [
                {"name": proof.name, "ok": proof.ok, "figure": proof.figure, "why": proof.why} for proof in self.proofs
            ],
            "notices": list(self.notices),
        }


class _Before(msgspec.Struct):
    """The stack that an upgrade replaced, whole: its plan gives the same flags again, and so the same saved states."""

    engine: str
    stack: msgspec.Raw


def deployed_stack(home: Home) -> StackRecord:
    """What an engine can be proved on. Raises NotSo when nothing is deployed."""
    stack = stackfile.read(home)
    if stack is None or stack.plan is None:
        raise NotSo(
            "there is no stack to prove an engine on",
            why="an upgrade runs the deployed model on the new engine first" if stack is None else
            "an older llmstack deployed it, and its plan cannot be read",
            next=f"{command_line('up', 'MODEL')}   deploys one; {command_line('engine', 'install')}   needs none",
        )  # fmt: skip
    return stack


def upgrade(home: Home, candidate: Engine, step: OnStep, *, insist: bool = False) -> Upgraded:
    """Examines the engine of now and `candidate`, and moves the stack where every proof holds, or on `insist`.

    Raises NotSo when the engine runs already, StackError when it cannot be tried; the stack then is as it was.
    """
    stack = deployed_stack(home)
    usable(candidate)
    now = named(home, stack.server.engine)
    if now is not None and now.command == candidate.command:
        raise NotSo(f"the stack runs on {candidate.name} already", next=command_line("engine", "list"))
    target = _deployment(home, candidate, step)
    tools = remembered(home) or own()
    with _room(home, stack, target.plan, step) as room:
        old = _examined_now(home, stack, now, tools, step)
        new = _examined(home, target, tools, step, chunk=old.chunk if old is not None else None)
        judges = target.model.size_bytes >= SMALLEST
        proofs = judge(old, new, speeds=judges)
        if judges and old is not None and now is not None:
            proofs = judge(old, new, _more_looks(home, _same(home, stack, now), target, old, new, step))
        notices: tuple[str, ...] = ()
        switches = insist or not failed(proofs)
        if switches:
            step(f"moving the stack to {candidate.name}")
            notices = up(home, target, step).notices
            room.is_used = True
            before = _Before(stack.server.engine, msgspec.Raw(msgspec.json.encode(stack)))
            write_private(_record(home), msgspec.json.encode(before))
            use(home, candidate.name)
    return Upgraded(stack.server.engine, candidate.name, proofs, switches, tools.source, _history(home, stack), notices)


def go_back(home: Home, step: OnStep) -> tuple[Engine, bool]:
    """The engine before this one, in use again; and whether the stack runs on it now.

    A deployed stack goes back with it: to the very flags that it had where an upgrade replaced them, so that the states
    saved then are taken up again. Raises NotSo when there is no engine to go back to; StackError when the stack does
    not come up on it (then it runs on as it did, and the engine in use stays).
    """
    stack = stackfile.read(home)
    engine, _ = previous(home)
    if stack is None or stack.plan is None or stack.server.engine == engine.name:
        return rollback(home), False
    if not transaction.runs(supervisor_for(home)):
        return rollback(home), False
    up(home, _earlier(home, stack, engine) or _deployment(home, engine, step), step)
    _record(home).unlink(missing_ok=True)
    return rollback(home), True


def _record(home: Home) -> Path:
    return home.state / "before-upgrade.json"


def _earlier(home: Home, stack: StackRecord, engine: Engine) -> Deployment | None:
    """The deployment that an upgrade replaced, if it was of this engine and of the model that is deployed now."""
    try:
        written = msgspec.json.decode(_record(home).read_bytes(), type=_Before)
        before = stackfile.decode(written.stack)
    except (OSError, msgspec.DecodeError):
        return None
    if written.engine != engine.name or before.model.path != stack.model.path or before.plan is None:
        return None
    return _same(home, before, engine)


def _same(home: Home, stack: StackRecord, engine: Engine) -> Deployment:
    """A deployment with the very plan of a record."""
    plan = stack.plan
    assert plan is not None
    at = Addresses(stack.proxy, stack.server.host, stack.server.port)
    model = open_model(stack.model.path, cache=home.cache)
    return Deployment(stack.model.name, model, plan, engine, stack.inputs, at, stack.goal)


def _deployment(home: Home, engine: Engine, step: OnStep) -> Deployment:
    """What `up` without a model would deploy, on this engine."""
    return prepare(home, UpRequest(), step, engine=engine).deployment


def _examined_now(
    home: Home, stack: StackRecord, engine: Engine | None, tools: Toolset, step: OnStep
) -> Examination | None:
    """The engine of now, by the same questions; None where it is gone, or fails at them: no fault of the new one."""
    if engine is None or engine.refused:
        return None
    try:
        return _examined(home, _same(home, stack, engine), tools, step)
    except StackError as error:
        step(f"{engine.name} could not be examined: {error.what}")
        return None


def _examined(
    home: Home, deployment: Deployment, tools: Toolset, step: OnStep, chunk: int | None = None
) -> Examination:
    name = deployment.engine.name
    step(f"{name}: loading {deployment.name}")
    with trial(home, deployment) as running:
        return examine(
            running, tools, pace_of(expected_speed(running.record)), lambda what: step(f"{name}: {what}"), chunk
        )


def _more_looks(
    home: Home, now: Deployment, target: Deployment, old: Examination, new: Examination, step: OnStep
) -> list[Look]:
    """The speeds of both, one after the other, until the looks agree on a verdict."""
    looks: list[Look] = []
    while in_doubt([(old.speeds, new.speeds), *looks]):
        seen = []
        for deployment, chunk in ((now, old.chunk), (target, new.chunk)):
            step(f"{deployment.engine.name}: measuring its speed once more")
            with trial(home, deployment) as running:
                again = Examination(deployment.engine.name)
                speeds(running, again, pace_of(expected_speed(running.record)), lambda _: None, chunk)
            seen.append(again.speeds)
        looks.append((seen[0], seen[1]))
    return looks


@dataclass(slots=True)
class _Room:
    """is_used: another stack runs there now."""

    is_used: bool = False


@contextmanager
def _room(home: Home, stack: StackRecord, plan: Plan, step: OnStep) -> Iterator[_Room]:
    """Stops the stack for the trials where its model does not fit a second time, and starts it again."""
    room = _Room()
    if not transaction.runs(supervisor_for(home)) or _fits_beside(plan):
        yield room
        return
    step("stopping the stack: its model does not fit into memory twice")
    down(home)
    try:
        yield room
    finally:
        if not room.is_used:
            step("starting the stack again")
            restart(home, (), step)


def _fits_beside(plan: Plan) -> bool:
    """Whether this plan's memory is free now, with the deployed server in its place."""
    hardware = detect().hardware
    if plan.memory.host.total > hardware.ram.available_mib:
        return False
    used = [use.total for use in plan.memory.devices if use.total]
    free = {device.name: device.free_mib for device in hardware.devices}
    planned = zip(plan.hardware.devices, plan.memory.devices, strict=False)
    return not used or all(free.get(device.name, 0) >= use.total for device, use in planned if use.total)


def _history(home: Home, stack: StackRecord) -> dict[str, float]:
    """What the last bench of the deployed model measured with an empty cache."""
    runs = [run for run in history(home) if run.model == stack.model.name]
    return {name: metric.median for name, metric in runs[-1].metrics.items() if name.endswith("at 0")} if runs else {}
