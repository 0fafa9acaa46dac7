"""`plan` on the terminal: the verdict, memory against its budget, each flag with its reason, the speeds."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.commands import command_line
from llmstack.gguf import printable
from llmstack.hardware import Hardware
from llmstack.plan import Infeasible, Plan, to_json
from llmstack.plan.memory import MemoryUse
from llmstack.plan.ranges import WIDE, bounds
from llmstack.plan.result import stated_spread
from llmstack.render.fitted import fitted, show_fitted, span, two_columns, wrapped
from llmstack.render.output import show, show_json, style
from llmstack.sizes import mib_text

if TYPE_CHECKING:
    from llmstack.plan.compare import Checked, FitComparison
    from llmstack.plan.explain import Explanation
    from llmstack.units import UnitDiff

_FLAG = 22
_BAR = 24


def show_planned(
    plan: Plan, fit: FitComparison | None, checked: Sequence[Checked], units: UnitDiff | None, *, as_json: bool
) -> None:
    """A plan, and beside it what `--compare`, `--verify` and the installed services say."""
    if as_json:
        result = to_json(plan)
        if units is not None:
            result["units"] = msgspec.to_builtins(units.changes)
        if fit is not None:
            result["fit"] = msgspec.to_builtins(fit)
        if checked:
            result["verified"] = msgspec.to_builtins(tuple(checked))
        show_json(result)
        return
    show_plan(plan)
    if units is not None:
        show_units(units)
    if fit is not None:
        show_comparison(fit)
    if checked:
        show_check(checked)


def show_plan(plan: Plan) -> None:
    facts, predicted = plan.facts, plan.predicted
    experts = f", {facts.n_expert} experts of which {facts.n_expert_used} work" if facts.moe else ""
    _head(
        printable(facts.name), "cyan",
        f"  {mib_text(facts.size_bytes / 2**20)}, {printable(facts.arch)}, "
        f"{facts.n_layer} blocks{experts}, trained on {facts.n_ctx_train} tokens",
    )  # fmt: skip
    _head(
        "fits", "green",
        f": {plan.assignment.ctx} tokens of context, {_speed(predicted.decode_tps)} tok/s; "
        f"first answer begins after {span(predicted.ttft_cold_s)}, later ones after {span(predicted.ttft_warm_s)}",
    )  # fmt: skip
    show("")
    for device, use, budget in zip(plan.hardware.devices, plan.memory.devices, plan.budget.devices, strict=True):
        _bar(printable(device.name), use, budget)
    _bar("RAM", plan.memory.host, plan.budget.ram)
    if plan.memory.cache_ram or plan.memory.checkpoints:
        reserves = f"prompt cache {mib_text(plan.memory.cache_ram)}, checkpoints {mib_text(plan.memory.checkpoints)}"
        for line in two_columns("", f"of RAM, at most: {reserves}", _BAR + 4, _width()):
            show(line)
    show("")
    for decision in plan.decisions:
        flag = f"{decision.flag} {decision.value}".strip()
        text = decision.reason + (f" ({decision.cost})" if decision.cost else "")
        _row(flag, text)
    show("")
    work = plan.goal.workload.within(plan.assignment.ctx // plan.assignment.parallel)
    factors = stated_spread(plan)
    _row(
        "speed",
        f"prefill {_ranged(predicted.prefill_tps, factors.prefill)} tok/s over a cold prompt of {work.cold_tokens} "
        f"tokens, decode {_ranged(predicted.decode_tps, factors.decode)} tok/s at a depth of {work.depth}; "
        f"first token cold {span(predicted.ttft_cold_s)}, warm {span(predicted.ttft_warm_s)}, "
        f"after a restart {span(predicted.ttft_restart_s)}",
    )
    for cache in plan.caches:
        p = cache.predicted
        own = cache.kind == plan.assignment.type_k
        change = "chosen" if own else f"{_change(p.session_s, predicted.session_s)} for the same work"
        known = f"; {cache.harm.text()}" if cache.harm is not None else ""
        if len(plan.caches) > 1 or known:
            _row("cache", f"{cache.kind}: {mib_text(cache.context_mib)}, {change}{known}")
    for other in plan.alternatives[:3]:
        p = other.predicted
        _row(
            "or",
            f"{other.why}: prefill {_speed(p.prefill_tps)}, decode {_speed(p.decode_tps)} tok/s, "
            f"{_change(p.session_s, predicted.session_s)} for the same work",
        )
    for note in plan.notes:
        _row("note", printable(note, 400), "yellow")
    show("")
    show("llama-server " + shlex.join(plan.argv))


def _head(word: str, colour: str, rest: str) -> None:
    first, *more = fitted(word + rest, 2)
    show(first.replace(word, style(word, colour), 1))
    for line in more:
        show(line)


def _ranged(tps: float, factor: float) -> str:
    """A speed, with the range where it is wide."""
    if factor < WIDE:
        return _speed(tps)
    low, high = bounds(tps, factor)
    return f"{_speed(tps)} ({_speed(low)} to {_speed(high)})"


def show_refused(error: Infeasible, *, as_json: bool) -> None:
    if as_json:
        show_json(error.to_json())
        return
    show(f"{style('does not fit', 'red')}: {printable(error.reason, 600)}")
    show(f"nearest: {error.nearest}")


def show_explained(explanation: Explanation, *, as_json: bool) -> None:
    if as_json:
        show_json(msgspec.to_builtins(explanation))
        return
    show(f"{style(explanation.flag, 'cyan')} {explanation.value}")
    for line in wrapped(explanation.about, _width()):
        show(line)
    show("")
    _row("here", explanation.reason + (f" ({explanation.cost})" if explanation.cost else ""))
    if not explanation.rows:
        return
    show("")
    show(f"  {'value':>10}  {'VRAM MiB':>9}  {'RAM MiB':>9}  {'prefill':>8}  {'decode':>7}  {'same work':>9}")
    for row in explanation.rows:
        end = style("chosen", "green") if row.chosen else "" if row.fits else style("does not fit", "red")
        show(
            f"  {row.value:>10}  {row.vram_mib:>9.0f}  {row.ram_mib:>9.0f}  {row.prefill_tps:>8.0f}  "
            f"{row.decode_tps:>7.1f}  {span(row.session_s):>9}  {end}".rstrip()
        )


def show_comparison(comparison: FitComparison) -> None:
    show("")
    show(f"{style('--fit', 'cyan')} would choose: {shlex.join(comparison.flags)[:300]}")
    _row(
        "prefill",
        f"{_speed(comparison.fit.prefill_tps)} tok/s against {_speed(comparison.ours.prefill_tps)} of this plan",
    )
    _row("decode", f"{_speed(comparison.fit.decode_tps)} tok/s against {_speed(comparison.ours.decode_tps)}")
    _row(
        "same work",
        f"{span(comparison.fit.session_s)} against {span(comparison.ours.session_s)}: {comparison.verdict}",
    )


def show_check(rows: Sequence[Checked]) -> None:
    show("")
    show(f"  {'':<28} {'part':<9} {'planned':>9} {'reported':>9}  MiB")
    for row in rows:
        mark = style("same", "green") if row.ok else style(f"{row.planned - row.reported:+.0f}", "red")
        show(f"  {printable(row.device)[:28]:<28} {row.part:<9} {row.planned:>9.0f} {row.reported:>9}  {mark}")


def show_ranked(rows: Sequence[Any], hardware: Hardware, choice: str, *, as_json: bool) -> None:
    """The catalog on a machine, the best coder that fits first, each in its best size. choice: what is recommended."""
    if as_json:
        models = [msgspec.to_builtins(row) for row in rows]
        show_json({"hardware": hardware.to_json(), "models": models, "recommended": choice or None})
        return
    show(f"On {machine(hardware)}:")
    show(f"  {'model':<30} {'size':<10} {'context':>8} {'decode':>8} {'prefill':>8} {'cold start':>10}")
    for row in rows:
        newer = f"  superseded by {row.superseded_by}" if row.superseded_by else ""
        if not row.fits:
            words = "does not fit" if row.planned else "not planned: its header was not read yet"
            show(f"  {row.name:<30} {row.quant:<10} {style(words, 'yellow')}{newer}")
            continue
        mark = style("→", "green") if row.name == choice else " "
        show(
            f"{mark} {row.name:<30} {row.quant:<10} {row.context:>8} {row.decode_tps:>8.1f} {row.prefill_tps:>8.0f} "
            f"{span(row.ttft_cold_s):>10}{newer}"
        )
    show("")
    if choice:
        show(f"→ the best coder at reading speed here: {command_line('up', choice)}")
    show_fitted(f"{command_line('plan', 'MODEL')}   says why; {command_line('up', 'MODEL')}   runs it", 2)


def show_units(units: UnitDiff) -> None:
    """One line a service, and what would change in it."""
    show("")
    if units.empty:
        show("services: nothing would change")
        return
    for change in units.changes:
        show(f"service {printable(change.unit)}: {change.kind.value}")
        if change.kind.value == "changed":
            for line in change.lines:
                if line.startswith(("+", "-")):
                    show("  " + printable(line, 300))


def machine(hardware: Hardware) -> str:
    cards = ", ".join(f"{printable(d.name)} ({d.free_mib / 1024:.1f} GiB free)" for d in hardware.devices)
    ram = f"{hardware.ram.available_mib / 1024:.0f} GiB of RAM free"
    return f"{cards}, {ram}" if cards else f"this processor ({hardware.cpu.physical_cores} cores), {ram}"


def _bar(name: str, use: MemoryUse, budget: int) -> None:
    part = min(use.total / budget, 1.0) if budget else float(use.total > 0)
    filled = round(part * _BAR)
    bar = "█" * filled + "░" * (_BAR - filled)
    text = (
        f"{name}: {use.total:.0f} of {budget} MiB: weights {mib_text(use.weights)}, "
        f"cache {mib_text(use.context)}, compute {mib_text(use.compute)}, other {mib_text(use.other)}"
    )
    for line in two_columns(f"  {bar}", text, _BAR + 4, _width()):
        show(line)


def _row(label: str, text: str, colour: str = "cyan") -> None:
    first, *more = two_columns(f"  {label}", text, _FLAG + 3, _width())
    show(first.replace(label, style(label, colour), 1))
    for line in more:
        show(line)


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, 30), 130)


def _speed(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def _change(other: float, ours: float) -> str:
    part = round(other / ours - 1, 2)
    return f"{abs(part):.0%} {'more' if part > 0 else 'less'} time" if part else "the same time"
