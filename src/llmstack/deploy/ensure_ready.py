"""Brings the stack to where Claude Code can use it: waits for one that starts, starts one that is stopped; where an
upstream elsewhere answers, the proxy alone."""

from __future__ import annotations

from collections.abc import Callable

from llmstack import stackfile
from llmstack.commands import command_line
from llmstack.deploy.apply import up
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.prepare import prepare
from llmstack.deploy.proxy_alone import up_alone
from llmstack.deploy.status import StackState, StackStatus, gather
from llmstack.deploy.supervisors import supervisor_for
from llmstack.deploy.waiting import wait_until
from llmstack.engine.control import EngineClient, Readiness
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.stackfile import ProxyEntry

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
    status = gather(home)
    if _is_enough(status, needs_model):
        return
    if start and not needs_model and status.state is not StackState.STARTING:
        up_alone(home, UpRequest(), on_progress)
        return
    if start and (status.state is StackState.STOPPED or status.alone is not None) and status.stack is not None:
        on_progress(f"the stack is stopped: starting {status.stack.model.name}")
        up(home, prepare(home, UpRequest(), on_progress).deployment, on_progress)
        return
    if status.state is StackState.STARTING:
        on_progress(f"waiting for {status.stack.model.name if status.stack else 'the stack'}")

    def probe() -> bool | None:
        nonlocal status
        status = gather(home)
        if _is_enough(status, needs_model):
            return True
        return None if status.state is StackState.STARTING else False

    if not wait_until(probe, patience_s, every_s=_LOOK_EVERY_S):
        why = status.last_error or status.cause
        remedy = status.next if status.findings else _next(needs_model=needs_model)[status.state]
        raise NotSo(f"the stack is {status.state.value}", why=why, next=remedy)


def running_stack(home: Home) -> stackfile.StackRecord:
    """What is deployed. Raises NotSo where that is nothing, or where it is stopped."""
    stack = stackfile.read(home)
    if stack is None:
        raise NotSo(
            "nothing is deployed yet", next=f"{command_line('up', 'MODEL')}   or   {command_line('up', '--demo')}"
        )
    if all(service.pid is None for service in supervisor_for(home).status().values()):
        raise NotSo("the stack is stopped", next=f"{command_line('up')}   starts {stack.model.name}")
    return stack


def _next(*, needs_model: bool) -> dict[StackState, str]:
    return {
        StackState.STARTING: command_line("logs", "-f"),
        StackState.DEGRADED: command_line("doctor"),
        StackState.FAILED: command_line("doctor"),
        StackState.STOPPED: command_line("up") if needs_model else command_line("up", "--proxy-only"),
        StackState.READY: "",
    }


def _is_enough(status: StackStatus, needs_model: bool) -> bool:
    if needs_model:
        return status.state is StackState.READY and status.alone is None
    proxy = status.services.get("proxy")
    return status.proxy is not None and proxy is not None and proxy.pid is not None and _answers(status.proxy)


def _answers(proxy: ProxyEntry) -> bool:
    with EngineClient(proxy.url) as client:
        return client.readiness() is not Readiness.UNREACHABLE
