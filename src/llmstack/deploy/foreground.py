"""`up --foreground`: the command stays, shows the logs, and takes the stack down when it is told to stop.

For containers, where the command is the container's life: SIGTERM ends it, and a service that is given up ends it too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

from llmstack.commands import command_line
from llmstack.deploy.apply import down
from llmstack.deploy.supervisors import supervisor_for
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.supervisor import LogLine, ServiceState

POLL_S = 0.5


def hold(home: Home, show: Callable[[Iterator[LogLine]], None]) -> None:
    """Returns when SIGTERM or SIGINT came and the stack is down. Raises NotSo when a service was given up.

    show gets the endless stream of log lines, in a thread of its own.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    supervisor = supervisor_for(home)
    lines = supervisor.follow(("server", "proxy"))
    threading.Thread(target=show, args=(lines,), daemon=True).start()
    try:
        while not stop.wait(POLL_S):
            for status in supervisor.status().values():
                if status.state is ServiceState.FAILED:
                    raise NotSo(
                        f"the {status.name} was given up",
                        why=status.last_exit or "",
                        next=command_line("logs", status.name),
                    )
    finally:
        down(home)
        for number, handler in before.items():
            signal.signal(number, handler)
