"""`status` on the terminal: one screen, and the same screen again and again for `--watch`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

import click

from llmstack.commands import command_line
from llmstack.deploy.reached_at import urls
from llmstack.deploy.status import StackState, StackStatus, Warm
from llmstack.deploy.usage import Used
from llmstack.findings import Level
from llmstack.plan import Plan
from llmstack.render.fitted import wrapped
from llmstack.render.key import key_line
from llmstack.render.output import has_colour, has_cursor, show, style
from llmstack.render.stack import open_sentence
from llmstack.stackfile import ProxyEntry, StackRecord
from llmstack.supervisor import ServiceState, ServiceStatus

_COLOURS = {
    StackState.READY: "green",
    StackState.STARTING: "yellow",
    StackState.DEGRADED: "yellow",
    StackState.STOPPED: "white",
    StackState.FAILED: "red",
}


_SERVICE_COLOURS = {ServiceState.RUNNING: "green", ServiceState.FAILED: "red", ServiceState.BACKOFF: "yellow"}
_LABEL = 9
_KEYS = 5  # of others: those that were used last


def show_status(status: StackStatus) -> None:
    for line in screen(status, shutil.get_terminal_size().columns):
        show(line)


def watch(look: Callable[[], StackStatus], every_s: float) -> None:
    """Redraws in place until ctrl-C: each line overwrites the old one, so nothing flickers."""
    before: list[str] = []
    while True:
        size = shutil.get_terminal_size()
        lines = screen(look(), size.columns)[: max(size.lines - 1, 1)]
        if has_cursor(sys.stdout):
            drawn = sum(
                max(1, -(-len(click.unstyle(line)) // size.columns)) for line in before
            )  # a command may be wider
            up = f"\x1b[{drawn}A" if drawn else ""
            sys.stdout.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
            before = lines
        else:
            sys.stdout.write("".join(f"{line}\n" for line in (*lines, "")))
        sys.stdout.flush()
        time.sleep(every_s)


def screen(status: StackStatus, columns: int) -> list[str]:
    """The lines of one screen, none wider than the terminal but a command, which is not broken."""
    head, *lines = _screen(status, columns)
    state = status.state.value
    first, *more = wrapped(head, max(columns, 20), subsequent_indent="  ")
    return [first.replace(state, style(state, _COLOURS[status.state]), 1), *more, *lines]


def _screen(status: StackStatus, columns: int) -> list[str]:
    stack = status.stack
    head = status.state.value
    if status.alone is not None:
        return _of_alone(status, status.alone, head, columns)
    if stack is None:
        lines = [f"{head}: {status.cause or 'nothing is deployed'}"]
        lines += [line for service in status.services.values() for line in _service(service, columns)]
        lines += [line for text in status.warnings for line in _row("warning", text, columns, "yellow")]
        return [*lines, *_row("next", status.hint, columns, "cyan")]
    lines = [f"{head}  {stack.model.name} on {stack.server.engine}  {stack.proxy.url}  ({status.supervisor})"]
    if status.interrupted:
        lines += _row("note", "the last `up` was cut off before the stack had answered", columns, "yellow")
    lines += [line for service in status.services.values() for line in _service(service, columns)]
    lines += _reach(stack.proxy, columns)
    lines += _keys(status, columns)
    lines += _row("plan", _plan(stack), columns)
    lines += _row("memory", _memory(status.used, stack.plan), columns)
    lines += _row("speed", _speed(status), columns)
    if status.state is StackState.READY:
        lines += _row("cache", _warm(status.warm), columns)
    for finding in status.findings:
        if finding.status is Level.WARN:
            lines += _row("note", f"{finding.finding}: {finding.cause}", columns, "yellow")
    for sentence in status.warnings:
        lines += _row("warning", sentence, columns, "yellow")
    if status.cause:
        lines += _row("cause", status.cause, columns, "red")
    if status.last_error:
        lines += _row("error", status.last_error, columns)
    return lines + _row("next", status.hint, columns, "cyan")


def _of_alone(status: StackStatus, proxy: ProxyEntry, head: str, columns: int) -> list[str]:
    lines = [f"{head}  the proxy alone  {proxy.url}  ({status.supervisor})"]
    lines += [line for service in status.services.values() for line in _service(service, columns)]
    lines += _reach(proxy, columns)
    lines += _keys(status, columns)
    lines += [line for text in status.warnings for line in _row("warning", text, columns, "yellow")]
    lines += _row("cause", status.cause, columns, "red") + _row("error", status.last_error, columns)
    if status.stack is not None:
        lines += _row("note", f"{command_line('up')}   starts {status.stack.model.name} again", columns)
    return lines + _row("next", status.hint, columns, "cyan")


def _keys(status: StackStatus, columns: int) -> list[str]:
    if status.keys is None:
        return []
    every = sorted(
        (row for row in status.keys.keys if row.key.revoked is None), key=lambda row: row.use.last_used, reverse=True
    )
    texts = [key_line(row, status.keys.now) for row in every[:_KEYS]]
    texts += [f"and {len(every) - _KEYS} more: {command_line('key', 'list')}"] if len(every) > _KEYS else []
    return [line for text in texts for line in _row("key", text, columns)]


def _reach(proxy: ProxyEntry, columns: int) -> list[str]:
    """Who else can use it; nothing where it listens on loopback."""
    if not proxy.is_open:
        return []
    where = f"{proxy.tls.host}:{proxy.tls.port} with TLS" if proxy.tls is not None else f"{proxy.host}:{proxy.port}"
    lines = _row("listens", f"on {where}; from other machines: {', '.join(urls(proxy))}", columns)
    return lines + (_row("warning", open_sentence(proxy), columns, "yellow") if proxy.is_plain else [])


def _warm(warm: Warm) -> str:
    if warm.state == "warming" and warm.of:
        left = f", {warm.left_s:.0f} s left" if warm.left_s is not None else ""
        return f"warming {warm.done / warm.of:.0%} of {warm.of:,} tokens{left}"
    if warm.state == "restoring":
        return "restoring what was saved"
    if not warm.prefix_tokens:
        return "cold: the next prompt is read in full"
    restored = ", restored from disk" if warm.source == "restored" else ""
    return f"warm: {warm.prefix_tokens:,} tokens held{restored}"


def _row(label: str, text: str, columns: int, colour: str | None = None) -> list[str]:
    """A label and its text; text that is too long goes on below, in line."""
    if not text:
        return []
    width = max(columns - _LABEL - 3, 20)
    first, *more = wrapped(text, width)
    name = f"{label:<{_LABEL}}"
    return [f"  {style(name, colour) if colour else name}{first}", *(f"  {'':<{_LABEL}}{line}" for line in more)]


def _service(service: ServiceStatus, columns: int) -> list[str]:
    parts = [service.state.value]
    if service.pid:
        parts.append(f"pid {service.pid}")
    if service.uptime_s is not None:
        parts.append(f"up {duration(service.uptime_s)}")
    if service.restarts:
        parts.append(f"died {service.restarts} time{'s' if service.restarts > 1 else ''}")
    if service.last_exit:
        parts.append(f"last: {service.last_exit}")
    if service.next_start_s:
        parts.append(f"started again in {duration(service.next_start_s)}")
    if service.trouble:
        parts.append(service.trouble)
    rows = _row(service.name, ", ".join(parts), columns)
    colour = _SERVICE_COLOURS.get(service.state)
    if colour and has_colour(sys.stdout):
        rows[0] = rows[0].replace(service.state.value, style(service.state.value, colour), 1)
    return rows


def _plan(stack: StackRecord) -> str:
    """The flags a person asks about first, out of all of them."""
    plan = stack.plan
    parts = [f"context {stack.n_ctx_slot:,}", f"{stack.n_parallel} slot{'s' if stack.n_parallel > 1 else ''}"]
    if plan is None:
        return ", ".join(parts)
    parts.append(f"KV {'/'.join(dict.fromkeys((plan.assignment.type_k, plan.assignment.type_v)))}")
    decided = {decision.flag: decision.value for decision in plan.decisions}
    parts += [f"{flag} {decided[flag]}".strip() for flag in ("-ngl", "-ncmoe", "-ncffn", "-nkvo") if flag in decided]
    return ", ".join(parts)


def _memory(used: Used, plan: Plan | None) -> str:
    parts = []
    planned = sum(round(device.total) for device in plan.memory.devices) if plan is not None else 0
    if planned or used.vram_mib:
        held = f"{used.vram_mib:,}" if used.vram_mib is not None else "?"
        parts.append(f"VRAM {held} of {planned:,} MiB planned" if planned else f"VRAM {held} MiB")
    if used.ram_mib is not None:
        host = f" of {round(plan.memory.host.total):,} MiB planned" if plan is not None else " MiB"
        parts.append(f"RAM {used.ram_mib:,}{host}")
    return ", ".join(parts)


def _speed(status: StackStatus) -> str:
    bench, stack = status.bench, status.stack
    if bench.get("prefill_tps") and bench.get("decode_tps"):
        return f"prefill {bench['prefill_tps']:,.0f}, decode {bench['decode_tps']:,.0f} tokens/s at the last bench"
    if stack is not None and stack.health is not None:
        return f"prefill {stack.health.prefill_tps:,.0f}, decode {stack.health.decode_tps:,.0f} tokens/s at `up`"
    return ""


def duration(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
