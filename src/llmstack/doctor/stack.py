"""Checks of what is deployed: services, ports, secrets, catalog, units, and the answers of the running proxy."""

from __future__ import annotations

from collections.abc import Iterator

from llmstack.commands import command_line
from llmstack.deploy.failure_causes import of_exit
from llmstack.doctor.client import parse_version
from llmstack.doctor.facts import DoctorFacts
from llmstack.findings import Finding, Level
from llmstack.plan.client_room import too_small


def services(facts: DoctorFacts) -> Iterator[Finding]:
    stack = facts.stack
    if facts.reach:
        ends = f"{command_line('up', '--listen', '127.0.0.1')}   ends that"
        level = Level.OK if facts.reached_by_tls else Level.WARN
        yield Finding("reach", level, facts.reach, "", "" if facts.reached_by_tls else ends)
    yield from (Finding("access", Level.WARN, sentence) for sentence in facts.barred)
    if facts.outdated:
        yield Finding("update", Level.WARN, facts.outdated, "", facts.outdated_remedy)
    if facts.unrecorded:
        yield Finding("stack", Level.FAIL, facts.unrecorded, "", f"{command_line('up', 'MODEL')}   writes it anew")
        return
    if facts.alone:
        yield Finding("stack", Level.OK, f"the proxy alone: {facts.alone}")
        return
    if stack is None:
        yield Finding(
            "stack",
            Level.OK,
            "nothing is deployed yet",
            "",
            f"{command_line('up', 'MODEL')}   or   {command_line('up', '--demo')}",
        )
        return
    level = {"ready": Level.OK, "failed": Level.FAIL}.get(stack.state, Level.WARN)
    remedy = {"ready": "", "stopped": command_line("up"), "starting": command_line("status", "--watch")}.get(
        stack.state, command_line("logs", "-n", "50")
    )
    yield Finding("stack", level, f"{stack.state}: {stack.model} at {stack.url}", stack.cause, stack.next or remedy)
    for service in stack.services:
        if service.trouble:
            yield Finding("stack", Level.WARN, f"{service.name}: {service.trouble}", "", "df -h")
        if service.last_exit is None or service.state in ("stopped",):
            continue
        dead = service.state == "failed"
        died = f"{service.name} died {service.restarts} time(s), last: {service.last_exit}"
        why, remedy = "", command_line("logs", service.name, "-n", "50")
        if (proven := of_exit(service.last_exit)) is not None:
            why, remedy = proven.what, proven.next
        elif "out of memory" in service.last_exit:
            why, remedy = "the plan is too large for what is free now", stack.smaller_plan or remedy
        yield Finding("stack", Level.FAIL if dead else Level.WARN, died, why, remedy)
    if stack.refused:
        yield Finding("stack", Level.WARN, stack.refused, stack.last_words, command_line("restart", "server"))
    if not stack.model_exists:
        yield Finding(
            "model",
            Level.FAIL,
            f"the model file is gone: {stack.model_path}",
            "",
            f"{command_line('models', 'list')}   then {command_line('up', 'MODEL')}",
        )


def served(facts: DoctorFacts) -> Iterator[Finding]:
    """What the engine did at its last start, against the plan; a start at boot included."""
    stack = facts.stack
    if stack is None:
        return
    yield from stack.served_findings
    if stack.served and not stack.served_findings:
        yield Finding("served", Level.OK, f"as planned: {stack.served}")


def ports(facts: DoctorFacts) -> Iterator[Finding]:
    for port in facts.ports:
        flag = "--port" if port.service == "proxy" else "--server-port"
        where = f"{port.host}:{port.port}"
        if port.taken and not port.ours:
            who = f"{port.owner} (pid {port.owner_pid})" if port.owner_pid else "a process of another user"
            yield Finding(
                "ports", Level.FAIL, f"{where}, which the {port.service} needs, is in use by {who}", "",
                f"stop it, or: {command_line('up', flag, port.port + 1)}",
            )  # fmt: skip
        else:
            yield Finding("ports", Level.OK, f"{where} is {'ours' if port.taken else 'free'} ({port.service})")


def secrets(facts: DoctorFacts) -> Iterator[Finding]:
    for secret in facts.secrets:
        if not secret.exists:
            if facts.stack is not None:
                yield Finding(
                    "secrets", Level.FAIL, f"{secret.path} is missing", "", f"{command_line('up')}   makes a new one"
                )
        elif not secret.owner_is_us:
            yield Finding(
                "secrets",
                Level.FAIL,
                f"{secret.path} belongs to another user",
                "",
                f"sudo chown $(id -u) '{secret.path}'",
            )
        elif secret.mode & 0o077:
            yield Finding(
                "secrets", Level.FAIL, f"{secret.path} can be read by others (mode {secret.mode:o})",
                "whoever reads it can use your stack", f"rm '{secret.path}' && {command_line('up')}   makes a new one",
            )  # fmt: skip
        else:
            yield Finding("secrets", Level.OK, f"{secret.path} is readable by you alone")


def web(facts: DoctorFacts) -> Iterator[Finding]:
    if not facts.web:
        return
    again = command_line("web-search", "use", facts.web)
    if facts.web_key in ("no key", "open"):
        what = "is missing" if facts.web_key == "no key" else "can be read by others, and is not used"
        yield Finding("web", Level.WARN, f"web searches go to {facts.web}, whose key {what}", "", again)
    else:
        yield Finding("web", Level.OK, f"web searches go to {facts.web}", "", "")


def catalog(facts: DoctorFacts) -> Iterator[Finding]:
    if facts.catalog_problem:
        yield Finding(
            "catalog", Level.FAIL, facts.catalog_problem, "the proxy keeps the routes it had", "edit your models.toml"
        )
    else:
        yield Finding("catalog", Level.OK, "models.toml is valid")
    if facts.fetched_catalog_problem:
        yield Finding(
            "catalog", Level.WARN, f"the fetched catalog counts for nothing: {facts.fetched_catalog_problem}",
            "the shipped one is used, under your own models.toml",
            f"{command_line('catalog', 'refresh')}, or {command_line('catalog', 'back')}",
        )  # fmt: skip


def units(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.supervisor
    if here.unit_problem:
        yield Finding("units", Level.FAIL, here.unit_problem, "", f"{command_line('up')}   writes them anew")
    for unit, kind in here.drifted.items():
        if kind == "kept":
            yield Finding(
                "units", Level.WARN, f"{unit} was edited by hand", "`up` keeps it as it is",
                (f"systemctl --user edit {unit}   makes a drop-in of it; "
                f"{command_line('up', '--force')}   replaces the unit"),
            )  # fmt: skip
        else:
            yield Finding("units", Level.WARN, f"{unit} differs from what is deployed ({kind})", "", command_line("up"))
    for path in here.drop_ins:
        yield Finding("units", Level.OK, f"a drop-in of yours is in effect: {path}")
    if facts.stack is not None and here.kind == "systemd" and not here.drifted and not here.unit_problem:
        yield Finding("units", Level.OK, "installed as deployed")


def proxy(facts: DoctorFacts) -> Iterator[Finding]:
    here, stack = facts.proxy, facts.stack
    if here is None or stack is None:
        return
    if not here.reachable:
        yield Finding(
            "connection", Level.FAIL if stack.state != "stopped" else Level.WARN,
            f"nothing answers at {stack.url}: {here.problem}", f"the stack is {stack.state}",
            command_line("up") if stack.state == "stopped" else command_line("logs", "proxy", "-n", "50"),
        )  # fmt: skip
        return
    yield Finding("connection", Level.OK, f"the proxy answers at {stack.url}")
    if here.token_status in (401, 403):
        yield Finding(
            "token", Level.FAIL, "the proxy refuses the token of this home (401)",
            "it was started with another token file", command_line("restart", "proxy"),
        )  # fmt: skip
    elif here.token_status is not None:
        yield Finding("token", Level.OK, "the proxy takes this home's token")
    if here.open_status is not None and here.open_status not in (401, 403):
        yield Finding(
            "token", Level.FAIL, f"the proxy answers without a token (HTTP {here.open_status})",
            "anybody on this machine could use it", command_line("restart", "proxy"),
        )  # fmt: skip
    for name, status in (here.routes or {}).items():
        if status == 404:
            yield Finding(
                "routes", Level.FAIL, f"model_not_found: no route takes the model name {name}",
                "sub-agents, titles and summaries of Claude Code ask for such names and then fail silently",
                'end your routes with: [[routes]] match = "*" upstream = "local"',
            )  # fmt: skip
        elif status in (200, 501):
            yield Finding("routes", Level.OK, f"{name} has a route")
        elif status not in (401, 403):
            yield Finding(
                "routes",
                Level.WARN,
                f"{name} is answered with HTTP {status}",
                "",
                command_line("logs", "proxy", "-n", "50"),
            )


def sub_agents(facts: DoctorFacts) -> Iterator[Finding]:
    stack, here = facts.stack, facts.proxy
    if stack is None:
        return
    if here is not None and here.tools:
        yield Finding(
            "sub-agents", Level.FAIL, f"a request with a tool came back without a tool call: {here.tools}",
            "the model or its chat template cannot call tools, so sub-agents end in silence",
            f"{command_line('models', 'list')}   choose one that calls tools",
        )  # fmt: skip
    elif stack.n_parallel < 2:
        yield Finding(
            "sub-agents",
            Level.OK,
            "one slot: parallel sub-agents wait for each other",
            "",
            command_line("up", "MODEL", "--parallel", "2"),
        )
    else:
        yield Finding("sub-agents", Level.OK, f"{stack.n_parallel} slots")


def abilities(facts: DoctorFacts) -> Iterator[Finding]:
    """What the deployed model has and can do, as the running server was asked at `up`."""
    if facts.stack is None:
        return
    version = parse_version(facts.client.version)
    room = too_small(facts.stack.n_ctx_slot, version) if facts.stack.n_ctx_slot else ""
    if room:
        yield Finding(
            "context", Level.WARN, room, "",
            f"{command_line('plan', facts.stack.model)}   says what context fits; a model trained on more, or "
            f"{command_line('up', facts.stack.model, '--set', 'rope-scaling=yarn')}, where its training is the limit",
        )  # fmt: skip
    others = [sentence for sentence in facts.stack.warnings if sentence != too_small(facts.stack.n_ctx_slot)]
    for sentence in others:
        yield Finding("model", Level.WARN, sentence, "", f"{command_line('models', 'list')}   shows others")
    if not others and not room:
        yield Finding("model", Level.OK, f"{facts.stack.n_ctx_slot} tokens for one conversation")


CHECKS = (services, served, ports, secrets, web, catalog, units, proxy, abilities, sub_agents)
