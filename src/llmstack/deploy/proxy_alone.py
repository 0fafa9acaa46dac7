"""The proxy without a server: for upstreams elsewhere, and where no model is, or shall be, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from llmstack import stackfile
from llmstack.commands import command_line
from llmstack.deploy import keys, ports, transaction, warm
from llmstack.deploy.addresses import addresses_of, wanted_ports
from llmstack.deploy.apply import PROXY_DEADLINE_S, deploy_lock, put_back_previous, renew_supervisor
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.ready import wait_ready
from llmstack.deploy.services import proxy_service
from llmstack.deploy.supervisors import chosen, others, start_alone, supervisor_for
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.stackfile import ProxyAlone


def up_alone(home: Home, request: UpRequest, on_progress: Callable[[str], None]) -> ProxyAlone:
    """Runs the proxy and no server, and waits until it answers. What is deployed stays known: `up` starts it again.

    request: only where it listens counts. Raises StackError; what ran before then runs again.
    """
    with deploy_lock(home):
        at = addresses_of(home, request).proxy
        supervisor = chosen(home)
        ours = [status.pid for one in (supervisor, *others(home, supervisor)) for status in one.status().values()]
        ports.check_free(wanted_ports(at), ours=[pid for pid in ours if pid], alone=True)
        home.make()
        keys.ensure(home)
        previous = transaction.begin(home)
        alone = ProxyAlone(at, supervisor.kind, proxy_service(at))
        try:
            if previous.ran:
                on_progress("saving what the server holds")
                warm.save(home, previous.stack)
            stackfile.write_alone(home, alone)
            for other in others(home, supervisor):
                other.remove()
            on_progress("starting the proxy")
            started_at = time.time()
            start_alone(supervisor, alone.service)
            wait_ready(supervisor, "proxy", at.url, deadline_s=PROXY_DEADLINE_S, started_at=started_at)
        except BaseException:
            put_back_previous(home, supervisor, previous, on_progress)
            raise
        transaction.end(home)
        return alone


def restart_alone(home: Home, names: tuple[str, ...], on_progress: Callable[[str], None]) -> None:
    """Raises NotSo for the server, which is not deployed beside it."""
    with deploy_lock(home):
        alone = stackfile.read_alone(home)
        if alone is None or "server" in names:
            stack = stackfile.read(home)
            model = stack.model.name if stack is not None else "MODEL"
            raise NotSo("the proxy runs alone: there is no server to restart", next=command_line("up", model))
        supervisor = supervisor_for(home)
        on_progress("starting the proxy")
        started_at = time.time()
        renew_supervisor(home, supervisor)
        if "proxy" in supervisor.status():
            supervisor.restart(["proxy"])
        else:
            start_alone(supervisor, alone.service)
        wait_ready(supervisor, "proxy", alone.proxy.url, deadline_s=PROXY_DEADLINE_S, started_at=started_at)
