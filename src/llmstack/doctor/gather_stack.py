"""Facts of what is deployed and of the running proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmstack.commands import command_line
from llmstack.deploy import ports as port_owners
from llmstack.deploy.listener import stranger
from llmstack.deploy.reached_at import urls
from llmstack.deploy.served import failure
from llmstack.deploy.status import StackState, StackStatus
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect.held import family
from llmstack.doctor.facts import PortFacts, ProxyFacts, SecretFacts, ServiceFacts, StackFacts, SupervisorFacts
from llmstack.doctor.gather_machine import user_id
from llmstack.errors import StackError
from llmstack.paths import Home, catalog_texts
from llmstack.stackfile import PROXY_PORT, SERVER_PORT, StackRecord

PROBE_TIMEOUT_S = 10.0
DEFAULT_PORTS = (("proxy", "127.0.0.1", PROXY_PORT), ("server", "127.0.0.1", SERVER_PORT))
# What Claude Code asks for by itself when no variable says otherwise: titles and the Explore agent.
BACKGROUND_MODEL = "claude-haiku-4-5-20251001"


def stack(status: StackStatus) -> StackFacts | None:
    record = status.stack
    if record is None or status.alone is not None:
        return None
    path = Path(record.model.path)
    exists, ready = path.exists(), status.state is StackState.READY
    return StackFacts(
        state=status.state.value,
        url=record.proxy.url,
        model=record.model.name,
        model_path=record.model.path,
        model_exists=exists,
        model_mib=path.stat().st_size >> 20 if exists else 0,
        n_parallel=record.n_parallel,
        services=tuple(
            ServiceFacts(s.name, s.state.value, s.last_exit, s.restarts, s.trouble) for s in status.services.values()
        ),
        planned_host_mib=round(record.plan.memory.host.total) if record.plan is not None else None,
        n_ctx_slot=record.n_ctx_slot or record.n_ctx,
        warnings=status.model_warnings,
        smaller_plan=command_line("up", record.model.name, "--ctx", max(record.n_ctx // 2, 4096)),
        refused=status.cause if ready and status.refused else "",
        last_words=status.last_error if ready and status.refused else "",
        cause=status.cause if failure(status.findings) is None else "",
        next=status.next if failure(status.findings) is None else "",
        served=status.served.text(),
        served_findings=status.findings,
    )


def reach(status: StackStatus) -> str:
    """Empty where only this machine reaches the proxy."""
    if status.proxy is None or not status.proxy.is_open or status.state is StackState.STOPPED:
        return ""
    where = f"other machines reach the proxy at {', '.join(urls(status.proxy))}"
    return f"{where}; keys go over the network as plain text" if status.proxy.is_plain else where


def ports(status: StackStatus) -> tuple[PortFacts, ...]:
    record = status.stack
    addresses: Sequence[tuple[str, str, int]] = DEFAULT_PORTS
    if status.alone is not None:
        addresses = (("proxy", status.alone.host, status.alone.port),)
    elif record is not None:
        addresses = (
            ("proxy", record.proxy.host, record.proxy.port),
            ("server", record.server.host, record.server.port),
        )
    ours = family([service.pid for service in status.services.values() if service.pid])
    facts = []
    for service, host, port in addresses:
        taken = not port_owners.is_free(host, port)
        pid, name = port_owners.owner(port) if taken else (None, "")
        facts.append(PortFacts(service, host, port, taken, pid, name, pid in ours if pid else False))
    return tuple(facts)


def secrets(home: Home) -> tuple[SecretFacts, ...]:
    facts = []
    for path in (home.token, home.server_key, *([home.client_keys] if home.client_keys.exists() else [])):
        try:
            status = path.lstat()
        except OSError:
            facts.append(SecretFacts(str(path), exists=False))
            continue
        facts.append(SecretFacts(str(path), True, status.st_mode & 0o777, status.st_uid == user_id()))
    return tuple(facts)


def catalog_problem(home: Home) -> str:
    """Empty when models and routes of both files can be read."""
    from llmstack.catalog import models, overlay, routes

    try:
        catalog = overlay.load(catalog_texts(home))
        routes.read(catalog)
        models.read_models(catalog)
    except StackError as error:
        return f"{error.what}: {error.why}" if error.why else error.what
    except OSError as error:
        return f"models.toml cannot be read: {error}"
    return ""


def fetched_catalog_problem(home: Home) -> str:
    """Why the fetched catalog counts for nothing; empty where it counts, and without one."""
    from llmstack.catalog import models, overlay
    from llmstack.fetch import catalog_in_use

    text = catalog_in_use.text_in_use(home)
    if text is None:
        lost = catalog_in_use.state(home).current is not None
        return "its file is gone, or is not what was fetched" if lost else ""
    try:
        models.read_models(overlay.load(catalog_texts(home), fetched=text))
    except StackError as error:
        return error.what
    except OSError as error:
        return str(error)
    return ""


def supervisor(home: Home, record: StackRecord | None) -> SupervisorFacts:
    from llmstack.systemd import SystemdSupervisor, manager
    from llmstack.units import ChangeKind

    problem = manager.unavailable_because()
    kind = record.supervisor if record is not None else ("process" if problem else "systemd")
    drifted: dict[str, str] = {}
    drop_ins: tuple[str, ...] = ()
    unit_problem, tier = "", "basic"
    if problem is None:
        units = SystemdSupervisor.of(home)
        tier = units.tier()
        if record is not None and kind == "systemd":
            drop_ins = units.drop_ins()
            try:
                changes = units.diff(record.services).changes
                drifted = {c.unit: c.kind.value for c in changes if c.kind is not ChangeKind.SAME}
            except StackError as error:
                unit_problem = error.what
    return SupervisorFacts(
        kind=kind,
        systemd_problem=problem,
        linger=manager.linger(),
        linger_command=manager.linger_command(),
        journal_answers=manager.journal_answers(),
        journal_readable=manager.journal_readable(),
        tier=tier,
        drifted=drifted,
        drop_ins=drop_ins,
        unit_problem=unit_problem,
    )


def proxy(home: Home, record: StackRecord | None, *, deep: bool) -> ProxyFacts | None:
    """Asks the running proxy. deep: also for a tool call, which costs a prefill."""
    if record is None:
        return None
    import httpx

    if (who := stranger(supervisor_for(home), record.proxy.url)) is not None:
        return ProxyFacts(reachable=False, problem=f"{who} answers in its place: it was sent no token")
    try:
        token = home.token.read_text().strip()
    except OSError:
        token = ""
    key = {"x-api-key": token}
    with httpx.Client(base_url=record.proxy.url, timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
        try:
            client.get("/health")
            token_status = client.get("/v1/models", headers=key).status_code
            open_status = client.get("/v1/models").status_code
            routes = {name: _route_status(client, key, name) for name in (record.model.name, BACKGROUND_MODEL)}
            tools = _try_tool(client, key, record.model.name) if deep and token_status == 200 else None
        except httpx.HTTPError as error:
            return ProxyFacts(reachable=False, problem=_short(error))
    return ProxyFacts(True, "", token_status, open_status, routes, tools)


def _route_status(client: Any, key: dict[str, str], name: str) -> int:
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
    status: int = client.post("/v1/messages/count_tokens", json=body, headers=key).status_code
    return status


def _try_tool(client: Any, key: dict[str, str], name: str) -> str:
    """Empty when a forced tool call comes back as one."""
    body = {
        "model": name,
        "max_tokens": 200,
        "tools": [
            {
                "name": "report",
                "description": "Report a word.",
                "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
            }
        ],
        "tool_choice": {"type": "tool", "name": "report"},
        "messages": [{"role": "user", "content": "Report the word hello."}],
    }
    response = client.post("/v1/messages", json=body, headers=key, timeout=300)
    if response.status_code != 200:
        return f"HTTP {response.status_code}"
    blocks = response.json().get("content", [])
    if any(block.get("type") == "tool_use" for block in blocks):
        return ""
    return f"the answer held {', '.join(sorted({str(block.get('type')) for block in blocks})) or 'nothing'}"


def _short(error: Exception) -> str:
    text = str(error)
    return "connection refused" if "refused" in text.lower() else text or type(error).__name__
