"""Models and their downloads on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmstack.catalog.licenses import is_open
from llmstack.catalog.models import Model
from llmstack.commands import command_line
from llmstack.fetch.models_dir import FileVerdict, Stored
from llmstack.fetch.progress import Stage, TransferProgress
from llmstack.fetch.survey import PATIENCE_S, SurveyRow, recommended
from llmstack.gguf import printable
from llmstack.plan.client_room import first_request, too_small
from llmstack.render.fitted import fitted, show_fitted, span
from llmstack.render.output import clip, columns, has_cursor, overwrite, show, style, warn
from llmstack.sizes import bytes_text


def size(count: int) -> str:
    """A file's size; empty where it is not known."""
    return bytes_text(count) if count else ""


def entry_json(name: str, model: Model, here: Mapping[str, str]) -> dict[str, Any]:
    """A model of the catalog for `--json`; here: by name, which size lies on this machine."""
    return {
        "name": name,
        "summary": model.summary,
        "repo": model.repo,
        "revision": model.revision,
        "license": model.license,
        "license_url": model.license_url or None,
        "license_is_open": is_open(model.license) if model.license else None,
        "checked": model.checked or None,
        "total": model.total,
        "active": model.active,
        "context": model.context,
        "quality": model.quality,
        "scores": [msgspec.to_builtins(score) for score in model.scores],
        "superseded_by": model.superseded_by or None,
        "arch": model.arch,
        "tools": model.tools.value if model.tools else None,
        "reasoning": model.reasoning.value if model.reasoning else None,
        "sampling": [list(pair) for pair in model.sampling.flags()],
        "sampling_thinking": [list(pair) for pair in model.sampling_thinking.flags()],
        "quirks": list(model.quirks),
        "sources": list(model.pages()),
        "facts_from": {kind: list(pages) for kind, pages in model.facts_from.items()},
        "quants": list(model.sizes()),
        "mmproj": f"{model.repo}/{model.mmproj}" if model.mmproj else None,
        "drafter": f"{model.drafter.repo}/{model.drafter.file}" if model.drafter else None,
        "here": here.get(name),
    }


def row_json(row: SurveyRow) -> dict[str, Any]:
    return {
        "quant": row.quant,
        "fits": row.fits,
        "planned": row.planned,
        "size_bytes": row.size_bytes,
        "planned_context": row.context,
        "decode_tps": row.decode_tps,
        "prefill_tps": row.prefill_tps,
        "ttft_cold_s": row.ttft_cold_s,
        "reason": row.reason,
        "serves_claude_code": row.fits and not too_small(row.context),
    }


def show_list(rows: Sequence[SurveyRow], models: Mapping[str, Model], here: Mapping[str, str], machine: str) -> None:
    """What fits this machine, the best coder first, what is superseded last; below it the rest, with the reason. 80
    columns are enough."""
    width = max((len(row.name) for row in rows), default=4)
    rows = sorted(rows, key=lambda row: models[row.name].order)
    fitting = [row for row in rows if row.fits]
    show(f"on {machine}:")
    show("")
    choice = recommended(rows, models)
    head = f"  {'rank':>4}  {'model':<{width}}  {'size':<10} {'file':>9}  {'context':>7}  {'decode':>6}  {'begins':>7}"
    show(f"{head}  here" if any(row.name in here for row in fitting) else head)
    wide = columns(sys.stdout)
    for row in fitting:
        colour = "green" if row.decode_tps >= 20 else "yellow" if row.decode_tps >= 8 else "red"
        mark = style("→", "green") if row.name == choice else " "
        few = "!" if too_small(row.context) else " "
        speeds = f"{row.context // 1024:>6}k{few} {style(f'{row.decode_tps:>6,.0f}', colour)}  {_begins(row)}"
        stored = here.get(row.name, "")
        if stored and wide and len(head) + 2 + len(stored) > wide:
            stored = "yes"
        show(f"{mark}{_entry_columns(row, models[row.name], width)}  {speeds}  {stored}".rstrip())
    refused = [row for row in rows if row.planned and not row.fits]
    if refused:
        show("")
        show("does not fit:")
        for row in refused:
            show_reason(f" {_entry_columns(row, models[row.name], width)}  ", row.reason)
    unread = [row for row in rows if not row.planned]
    if unread:
        show("")
        show_fitted(f"not planned before its header is read, as {command_line('plan', 'MODEL')} does:")
        for row in unread:
            show(f" {_entry_columns(row, models[row.name], width)}")
    show("")
    if choice:
        show(f"→ the best coder at reading speed here: {command_line('up', choice)}")
    elif fitting:
        show("none is recommended: each takes over five minutes to begin a first answer")
    show("decode: tokens/s, predicted, 30,000 tokens deep")
    show("begins: after so long the first answer comes; later ones are quicker")
    if any(too_small(row.context) for row in fitting):
        one = first_request()
        show(f"!: too short for {one.client}, whose first request takes about {one.tokens:,} tokens")
    older = {row.name: models[row.name].superseded_by for row in rows if models[row.name].superseded_by}
    if older:
        show_fitted(f"old: superseded; {', '.join(f'{name} by {newer}' for name, newer in older.items())}", 5)
    if any(_has_terms(models[row.name]) for row in rows):
        show(f"*: its licence sets conditions of its own: {command_line('models', 'show', 'MODEL')}")
    show(f"how each comes about: {command_line('plan', 'MODEL')}")


def _begins(row: SurveyRow) -> str:
    return style(f"{span(row.ttft_cold_s):>7}", "red" if row.ttft_cold_s > PATIENCE_S else "white")


def _entry_columns(row: SurveyRow, model: Model, width: int) -> str:
    """Rank, name, size and bytes: what each of the three lists starts its lines with."""
    rank = "old" if model.superseded_by else str(model.quality or "")
    star = "*" if _has_terms(model) else " "
    return f" {rank:>4} {star}{row.name:<{width}}  {row.quant:<10} {size(row.size_bytes):>9}"


def _has_terms(model: Model) -> bool:
    return bool(model.license) and not is_open(model.license)


def show_reason(start: str, reason: str) -> None:
    """Why something does not fit, behind the start of its line; the last part of a plan's refusal has the figures."""
    first, *rest = fitted(reason.rpartition("; ")[2], len(start), first=len(start))
    for line in (start + first, *rest):
        show(line.rstrip())


def show_older(ages: Mapping[str, int | None], days: int) -> None:
    """ages: days since an entry's facts were looked up, None where it does not say."""
    width = max((len(name) for name in ages), default=0)
    for name, age in ages.items():
        show(f"{name:<{width}}  {f'{age} days' if age is not None else 'it does not say when'}")
    if not ages:
        show(f"every entry was looked up within {days} days")


def show_names(models: Mapping[str, Model], here: Mapping[str, str]) -> None:
    width = max((len(name) for name in models), default=4)
    for name, model in models.items():
        mark = style(here[name], "green") if name in here else ""
        newer = f"(superseded by {model.superseded_by}) " if model.superseded_by else ""
        sizes = ", ".join(model.sizes()) or "elsewhere"
        show(f"{name:<{width}}  {sizes:<48} {newer}{model.summary} {mark}".rstrip())


def show_model(data: Mapping[str, Any]) -> None:
    """`models show`: what the catalog says, where the files are, what the template is."""
    show(f"{style(data['name'], 'cyan')}  {data.get('summary', '')}".rstrip())
    facts = {
        "rank": data.get("quality"),
        "superseded by": data.get("superseded_by"),
        "license": _license(data),
        "parameters": _parameters(data),
        "context": f"{data['context']:,} tokens" if data.get("context") else None,
        "architecture": data.get("arch"),
        "tool calls": data.get("tools"),
        "thinking": data.get("reasoning"),
        "sampling": _flags(data.get("sampling")),
        "when thinking": _flags(data.get("sampling_thinking")),
        "quirks": "; ".join(data.get("quirks", ())),
        "reads images": data.get("mmproj"),
        "guesses ahead": data.get("drafter"),
    }
    for name, value in facts.items():
        if value:
            show(f"  {name:<14} {value}")
    for item in data.get("sizes", ()):
        where = style(item["path"], "green") if item.get("path") else "not here"
        amount = size(item["size_bytes"]) or "size asked at the pull"
        mark = "sha256 known" if item["sha256"] else "sha256 from the hub"
        show(f"  {item['quant']:<14} {amount:>22}  {mark:<19}  {where}")
    if data.get("difference"):
        show_fitted(f"  {'differs':<14} {data['difference']}", 17)
    for score in data.get("scores", ()):
        note = f" ({score['note']})" if score.get("note") else ""
        show_fitted(f"  {score['name']} {score['value']:g}{note}: {score['source']}", 17)
    if data.get("sources"):
        show(f"  looked up on {data['checked']}:" if data.get("checked") else "  looked up at:")
    named = data.get("facts_from", {})
    for kind, pages in named.items():
        for page in pages:
            show(f"    {_KINDS[kind]:<12} {page}")
    for page in data.get("sources", ()) if not named else ():
        show(f"    {page}")
    template = data.get("template")
    if template:
        digest = f"sha256 {template['sha256'][:16]}…"
        show(f"  {'template':<14} {template['characters']:,} characters, {digest}, {template['change']}")


_KINDS = {
    "files": "files",
    "parts": "other files",
    "shape": "dimensions",
    "license": "license",
    "context": "context",
    "sampling": "sampling",
    "tools": "tool calls",
    "reasoning": "thinking",
}  # the kinds of facts in words


def show_template(text: str, change: str) -> None:
    show(style(f"# {change}", "cyan"))
    for line in text.splitlines():
        show(printable(line, 4000))


def show_pulled(name: str, paths: Sequence[Path], store: str, already: bool) -> None:
    verb = "already here" if already else "pulled"
    where = "" if store in ("own", "path", "") else f" (found in the {store}, used in place)"
    show(f"{style(name, 'cyan')} {verb}{where}: {paths[0]}")
    for path in paths[1:]:
        show(f"  {path}")


def show_verdicts(verdicts: Sequence[FileVerdict]) -> None:
    if not verdicts:
        show("no model file is in the stack's own store")
    for verdict in verdicts:
        word = {True: style("good", "green"), False: style("bad", "red"), None: style("unknown", "yellow")}[verdict.ok]
        show(f"{word}  {verdict.path}  sha256 {verdict.sha256[:16]}…  {verdict.why}".rstrip())


def show_disk(stored: Sequence[Stored], folder: Path) -> None:
    for item in stored:
        mark = "  unfinished" if item.partial else ""
        show(f"{size(item.size):>10}  {item.path.relative_to(folder)}{mark}")
    show(f"{size(sum(item.size for item in stored)) or '0 MiB':>10}  in {folder}")


def show_removed(paths: Sequence[Path], freed: int) -> None:
    for path in paths:
        show(f"removed {path}")
    show(f"{size(freed) or '0 MiB'} freed")


def show_text(text: str) -> None:
    show(text)


def _license(data: Mapping[str, Any]) -> str:
    """With where it is, if it asks for more than a notice."""
    if not data.get("license") or data.get("license_is_open"):
        return data.get("license") or ""
    page = data.get("license_url") or (f"https://huggingface.co/{data['repo']}" if data.get("repo") else "its page")
    return f"{data['license']}, with conditions of its own: {page}"


def _parameters(data: Mapping[str, Any]) -> str:
    if not data.get("total"):
        return ""
    active = f", {data['active']:g} billion active per token" if data.get("active") else ""
    return f"{data['total']:g} billion{active}"


def _flags(pairs: Sequence[Sequence[str]] | None) -> str:
    return " ".join(f"{flag} {value}" for flag, value in pairs or ())


class PullProgress:
    """A bar with speed and time left on a terminal; a line every few seconds elsewhere. All on stderr."""

    def __init__(self) -> None:
        self._terminal = has_cursor(sys.stderr)
        self._file = ""
        self._stage: Stage | None = None
        self._began = self._last = time.monotonic()
        self._from = 0

    def __call__(self, progress: TransferProgress) -> None:
        now = time.monotonic()
        if progress.stage is Stage.TERMS:
            warn(progress.note)
            return
        if (progress.file, progress.stage) != (self._file, self._stage):
            if progress.file != self._file or progress.stage is not Stage.DOWNLOADING:
                self._from = progress.done
            self._file, self._stage, self._began = progress.file, progress.stage, now
            self._from = progress.done
        elif now - self._last < (0.1 if self._terminal else 5.0):
            return
        self._last = now
        if self._terminal:
            overwrite(self._line(progress, now))
            if progress.stage in (Stage.READY, Stage.RENAMED):
                sys.stderr.write("\n")
        elif progress.stage is not Stage.CHECKING or progress.done == progress.total:
            sys.stderr.write(self._line(progress, now) + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._terminal and self._stage is not Stage.READY:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self, progress: TransferProgress, now: float) -> str:
        name = printable(progress.file, 200)
        if progress.stage is Stage.READY:
            return f"{name}  {size(progress.total)}  checked"
        if progress.note:
            return f"{name}  {progress.note}"
        if not progress.total:
            return f"{name}  {progress.stage.value}"
        share = progress.done / progress.total
        passed = now - self._began
        speed = (progress.done - self._from) / passed if passed > 0.5 else 0.0
        left = (progress.total - progress.done) / speed if speed else 0.0
        rate = f"{speed / 1e6:,.0f} MB/s" if speed else ""
        verb = "" if progress.stage is Stage.DOWNLOADING else f"  {progress.stage.value}"
        time_left = f"{_duration(left)} left" if left else ""
        amount = f"{size(progress.done) or '0 MiB'} of {size(progress.total)}"
        figures = f"{share:>4.0%}  {amount}  {rate}  {time_left}{verb}".rstrip()
        room = (columns(sys.stderr) or 200) - 1 - len(figures) - 3
        bar = max(min(20, room - len(name)), 8)
        return f"{clip(name, max(room - bar, 8))}  {('━' * round(share * bar)).ljust(bar, '─')} {figures}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
