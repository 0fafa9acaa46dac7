"""All facts of one home, for `run.judge`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from llmstack.deploy import outdated
from llmstack.deploy.status import gather as gather_status
from llmstack.detect.held import family
from llmstack.doctor import gather_client, gather_machine, gather_stack
from llmstack.doctor.facts import DoctorFacts
from llmstack.paths import Home
from llmstack.web_settings import key_state


def gather(home: Home, *, deep: bool = False, on_progress: Callable[[str], None] = lambda step: None) -> DoctorFacts:
    """deep: also asks the running model for a tool call, which costs a prefill and a place in its cache."""
    on_progress("looking at the stack")
    status = gather_status(home)
    on_progress("looking at this machine")
    hardware, warnings = gather_machine.hardware(home)
    pids = [service.pid for service in status.services.values() if service.pid]
    try:
        token = home.token.read_text().strip()
    except OSError:
        token = ""
    url = status.stack.proxy.url if status.stack else None
    on_progress("asking the model for a tool call" if deep else "asking the proxy")
    return DoctorFacts(
        hardware=hardware,
        engine=gather_machine.engine(home),
        gpu=gather_machine.gpu(warnings, family(pids)),
        disks=gather_machine.disks(home),
        supervisor=gather_stack.supervisor(home, status.stack),
        secrets=gather_stack.secrets(home),
        catalog_problem=gather_stack.catalog_problem(home),
        fetched_catalog_problem=gather_stack.fetched_catalog_problem(home),
        clock=gather_machine.clock(),
        client=gather_client.client(os.environ, Path.home(), token, url),
        ports=gather_stack.ports(status),
        stack=gather_stack.stack(status),
        alone=f"{status.state.value} at {status.alone.url}" if status.alone is not None else "",
        unrecorded=status.cause if status.stack is None and status.alone is None else "",
        reach=gather_stack.reach(status),
        barred=status.barred,
        web=status.web.service,
        web_key=key_state(home, status.web),
        outdated=outdated.sentence(status.outdated),
        outdated_remedy=outdated.remedy(status.outdated),
        reached_by_tls=status.proxy is not None and not status.proxy.is_plain,
        proxy=gather_stack.proxy(home, status.stack, deep=deep),
    )
