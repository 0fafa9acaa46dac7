"""Brings the stack to where Claude Code can use it: waits for one that starts, starts one that is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from llmstack.commands import command_line
from llmstack.deploy import record
from llmstack.deploy.apply import up
from llmstack.deploy.prepare import Ask, prepare
from llmstack.deploy.status import StackStatus, State, gather
from llmstack.engine.control import EngineClient, Readiness
from llmstack.errors import NotSo
from llmstack.paths import Home

STARTING_WAIT_S = 900.0
_LOOK_EVERY_S = 0.5


def ensure_ready(
    home: Home,
    on_progress: Callable[[str], None],
    *,
    needs_model: bool = True,
    start: bool = True,
    patience_s: float = STARTING_WAIT_S,
) -> None:
    """Raises NotSo when the stack is neither ready nor becomes it within patience_s seconds.

    needs_model: False when another upstream answers, so that the proxy alone is enough. start: False only waits.
    """
    deadline = time.monotonic() + patience_s
    status = gather(home)
    if status.state is State.STOPPED and start and status.stack is not None:
        on_progress(f"the stack is stopped: starting {status.stack.model.name}")
        up(home, prepare(home, Ask(), on_progress).desired, on_progress)
        return
    announced = False
    while not _enough(status, needs_model):
        if status.state is not State.STARTING or time.monotonic() >= deadline:
            raise NotSo(f"the stack is {status.state.value}", why=status.last_error, next=_next()[status.state])
        if not announced:
            on_progress(f"waiting for {status.stack.model.name if status.stack else 'the stack'}")
            announced = True
        time.sleep(_LOOK_EVERY_S)
        status = gather(home)


def _next() -> dict[State, str]:
    return {
        State.STARTING: command_line("logs", "-f"),
        State.DEGRADED: command_line("doctor"),
        State.FAILED: command_line("doctor"),
        State.STOPPED: command_line("up"),
        State.READY: "",
    }


def _enough(status: StackStatus, needs_model: bool) -> bool:
    if status.state is State.READY:
        return True
    return not needs_model and status.stack is not None and _proxy_answers(status.stack)


def _proxy_answers(stack: record.Stack) -> bool:
    with EngineClient(stack.proxy.url) as client:
        return client.readiness() is not Readiness.UNREACHABLE
