"""`up` and `status` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmstack.commands import command_line
from llmstack.deploy.apply import UpResult
from llmstack.deploy.reached_at import urls
from llmstack.deploy.status import StackState, StackStatus
from llmstack.render.fitted import fitted, show_fitted
from llmstack.render.output import show, style, warn
from llmstack.stackfile import HealthRecord, ProxyEntry, StackRecord

_LONGEST = 36  # characters of a command beside its meaning: half of 80 columns stay for that


def show_up(outcome: UpResult, *, is_demo: bool) -> None:
    stack = outcome.stack
    show(f"{style('ready', 'green')}  {stack.model.name} on {stack.server.engine}, in {outcome.seconds:.1f} s")
    if not outcome.started:
        show("       it was running already; nothing was restarted")
    if stack.health is not None:
        show_health(stack.health)
    show("")
    if is_demo:
        show_demo_note()
    show_connect(stack)


def show_alone(status: StackStatus) -> None:
    assert status.alone is not None
    show(f"{style('ready', 'green')}  the proxy alone, at {status.alone.url}")
    show("")
    show("Use it:")
    _show_table(
        (command_line("upstream", "list"), "who can answer"),
        (command_line("claude", "--profile", "NAME"), "Claude Code on one of them"),
        (status.alone.url, f"Anthropic and OpenAI clients; the key: {command_line('token')}"),
    )
    show_reach(status.alone)
    show_fitted(f"Stop it: {command_line('down')}. With a model: {command_line('up', 'MODEL')}.", 12)


def show_reach(proxy: ProxyEntry) -> None:
    """Who else can use it, where it listens for other machines."""
    if not proxy.is_open:
        return
    show_fitted(f"From other machines, each person with a key of their own ({command_line('key', 'add', 'NAME')}):", 2)
    for url in urls(proxy):
        show(f"  {url}")
    if proxy.is_plain:
        warn(f"{open_sentence(proxy)}; {command_line('up', '--listen', '127.0.0.1')}   ends that")


def open_sentence(proxy: ProxyEntry) -> str:
    where = "every address of this machine" if proxy.host in ("0.0.0.0", "::") else proxy.host
    return f"the proxy listens on {where}, port {proxy.port}, and keys go over the network as plain text"


def up_json(outcome: UpResult, warnings: Sequence[str] = ()) -> dict[str, Any]:
    stack = outcome.stack
    return {
        "state": StackState.READY.value,
        "url": stack.proxy.url,
        "model": stack.model.name,
        "engine": stack.server.engine,
        "supervisor": stack.supervisor,
        "n_ctx": stack.n_ctx,
        "n_ctx_slot": stack.n_ctx_slot,
        "started": outcome.started,
        "seconds": round(outcome.seconds, 2),
        "health": stack.health,
        "warnings": list(warnings),
    }


def show_down(stopped: Mapping[str, Any]) -> None:
    """stopped: as `down --json` says it."""
    show("stopped" if stopped["was_running"] else "nothing was running")


def show_health(health: HealthRecord) -> None:
    total = round(health.cached_tokens / health.hit_ratio) if health.hit_ratio else health.prompt_tokens
    work = f"{health.prompt_tokens:,} tokens in {health.ttft_cold_s:.2f} s"
    show(f"  prefill cold  {health.prefill_tps:>9,.0f} tokens/s   {work}")
    show(
        f"  prefill warm  {health.hit_ratio:>9.1%} cached     {health.cached_tokens:,} of {total:,} tokens"
        f" reused, {health.ttft_warm_s:.2f} s"
    )
    show(f"  decode        {health.decode_tps:>9,.0f} tokens/s")
    show_fitted(f"  answer        {health.answer!r}", 16)
    for finding in health.findings:
        for number, line in enumerate(fitted(finding, 4, first=4)):
            show(line if number else f"  {style('!', 'yellow')} {line}")


def show_demo_note() -> None:
    show_fitted("This is the demo model: it was written on this machine in a second, and its words mean nothing.", 0)
    show("What it proves is the way: engine, proxy, cache, client. For real answers:")
    _show_table(
        (command_line("models", "list"), "what fits this machine"),
        (command_line("up", "MODEL"), "a name from that list, or a path to a GGUF"),
    )
    show("")


def show_connect(stack: StackRecord) -> None:
    show("Use it:")
    _show_table(
        (command_line("claude"), "Claude Code on this stack"),
        (f'eval "$({command_line("env")})"', "the same environment for your own shell"),
        (stack.proxy.url, f"Anthropic and OpenAI clients; the key: {command_line('token')}"),
    )
    look = ", ".join([command_line("status"), command_line("logs", "-f"), command_line("bench")])
    show_reach(stack.proxy)
    show_fitted(f"Look at it: {look}. Stop it: {command_line('down')}.", 12)


def _show_table(*rows: tuple[str, str]) -> None:
    """Commands and what they do; the second column begins at one place, however the program is called.

    A command too long for that has its meaning on the next line.
    """
    width = max((23, *(len(command) for command, _ in rows if len(command) <= _LONGEST)))
    for command, meaning in rows:
        if len(command) > width:
            show(f"  {command}")
            command = ""
        show_fitted(f"  {command:<{width}}  {meaning}", width + 4)
