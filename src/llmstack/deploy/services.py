"""The two services of a stack, as data: what a plan, an engine and two ports come to."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmstack.deploy.load_log import verbosity
from llmstack.engine import embedded
from llmstack.engine.environment import device_environment
from llmstack.engine.find import Engine
from llmstack.engine.flags import fit, parse_help
from llmstack.paths import Home
from llmstack.plan import Plan
from llmstack.stackfile import SERVER_PORT, ProxyEntry
from llmstack.supervisor import Service
from llmstack.warmstart.fingerprint import folder_name

_PASSED_ON = (
    "LLMSTACK_HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
)


# What protocol/limits.py lets in at once fits well below: bodies, answers, two readers of documents.
PROXY_MEMORY_MIB = 2048


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where proxy and server listen."""

    proxy: ProxyEntry = field(default_factory=ProxyEntry)
    server_host: str = "127.0.0.1"
    server_port: int = SERVER_PORT


def stack_services(home: Home, engine: Engine, plan: Plan, at: Addresses) -> tuple[Service, Service]:
    """Server and proxy. Raises MissingPart when the engine lacks a flag that has no equivalent."""
    server = server_service(home, engine, plan.argv, at.server_host, at.server_port, ram_limit(plan))
    return server, proxy_service(at.proxy)


def server_service(
    home: Home, engine: Engine, plan_argv: Sequence[str], host: str, port: int, memory_max_mib: int | None = None
) -> Service:
    """llama-server with the plan's flags and what running under the stack adds: loopback, a key file, no UI, no CORS.

    Raises MissingPart when the engine lacks a flag that has no equivalent.
    """
    states = home.slots / folder_name((*engine.command, *plan_argv))  # no other server can read what it saves
    argv = (
        *plan_argv,
        *verbosity(engine, plan_argv),
        *("--host", host, "--port", str(port), "--api-key-file", str(home.server_key)),
        *("--slot-save-path", str(states), "--metrics", "--no-ui", "--cors-origins", f"http://{host}:{port}"),
    )
    flags = engine.flags or parse_help(embedded.help_text())
    fitted = fit(argv, flags, engine=engine.name)
    return Service(
        "server",
        "llama-server (llmstack)",
        (*engine.command, *fitted.argv),
        environment() | device_environment(os.environ),
        memory_max_mib=memory_max_mib,
    )


def ram_limit(plan: Plan) -> int | None:
    """MiB of RAM the server may have: the plan's budget for the host, in whole 256 MiB so that it seldom changes."""
    budget = plan.budget.ram
    return max(budget // 256 * 256, round(plan.memory.host.total)) if budget else None


def proxy_service(at: ProxyEntry) -> Service:
    names = [word for name in at.allow_hosts for word in ("--allow-host", name)]
    argv = (sys.executable, "-m", "llmstack", "serve-proxy", "--host", at.host, "--port", str(at.port), *names)
    if at.tls is not None:
        tls = at.tls
        argv += ("--tls-host", tls.host, "--tls-port", str(tls.port), "--tls-cert", tls.cert, "--tls-key", tls.key)
    words = "Anthropic to OpenAI proxy (llmstack)"
    return Service("proxy", words, argv, environment(), memory_max_mib=PROXY_MEMORY_MIB, notify=True)


def environment() -> dict[str, str]:
    """What the services must share with the command that started them; never a secret."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"PYTHONUNBUFFERED": "1"}
