"""What `models find` shows: what fits first, then what does not and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmstack.commands import command_line
from llmstack.fetch.discover import FoundRepo
from llmstack.fetch.found import FoundRow
from llmstack.fetch.newer import Newer
from llmstack.fetch.upstream_state import UpstreamFile, UpstreamState
from llmstack.plan.client_room import too_small
from llmstack.render.models import show_reason, size
from llmstack.render.output import clip, columns, show, style


def show_found(rows: Sequence[FoundRow], repos: Sequence[FoundRepo], machine: str) -> None:
    """A line each; the references below it are what other commands take."""
    if not rows:
        show("nothing on the hub has this name, or nothing of it fits" if repos else "nothing on the hub has this name")
        show(f"other words, or what is known without a search: {command_line('models', 'list')}")
        return
    show(f"on {machine}:")
    show("")
    width = min(max(len(row.repo) for row in rows), max((columns(sys.stdout) or 100) - 62, 24))
    show(
        f"  {'repository':<{width}}  {'size':<11} {'file':>9}  {'context':>7}  {'decode':>6}  {'downloads':>9}  licence"
    )
    open_ones = {repo.repo for repo in repos if repo.is_open}
    for row in (row for row in rows if row.fits):
        colour = "green" if row.decode_tps >= 20 else "yellow" if row.decode_tps >= 8 else "red"
        few = "!" if too_small(row.context) else " "
        figures = f"{row.quant:<11} {size(row.bytes):>9}  {row.context // 1024:>6}k{few}"
        speed = style(f"{row.decode_tps:>6,.0f}", colour)
        license_text = row.license or "none is named"
        asks = "*" if row.gated or row.repo not in open_ones else ""
        mark = " " if row.known else "?"
        show(f"{mark} {clip(row.repo, width):<{width}}  {figures} {speed}  {row.downloads:>9,}  {license_text}{asks}")
    missing = [row for row in rows if not row.fits]
    if missing:
        show("")
        show("does not fit, or is no model:")
        for row in missing:
            show_reason(f"  {clip(row.repo, width):<{width}}  {row.quant:<11} {size(row.bytes):>9}  ", row.reason)
    fitting = [row for row in rows if row.fits]
    show("")
    if fitting:
        show(f"→ {command_line('plan', fitting[0].ref)}")
        show("  the commit behind @ is this very file; without it, whatever has that name later")
    show("decode: tokens/s, predicted, 30,000 tokens deep")
    if any(not row.known for row in fitting):
        show("?: an owner that is not known here: look at the repository before you trust its files")
    if any(row.gated or row.repo not in open_ones for row in fitting):
        show("*: read the licence: it asks for more than a notice, must be accepted first, or is not named")


def show_newer(model: Newer, *, is_moved: bool) -> None:
    """What became of one model that was brought up to date."""
    if model.after is None:
        show(f"{style(model.name, 'cyan')} is what its repository has")
        return
    assert model.after.path is not None
    show(f"{style(model.name, 'cyan')} pulled anew: {model.revision[:12]} before, {model.now[:12]} now")
    show(f"  {model.after.path}")
    if is_moved:
        show("the stack runs on it, under the same name")
    else:
        show(f"→ {command_line('up', model.reference)}")
    old = command_line("models", "remove", model.before[0])
    show(f"the old one stays: {old}   deletes it")


def show_changes(files: Sequence[UpstreamFile]) -> None:
    """What became of each pulled file where it came from, and the command that helps."""
    if not files:
        show("no model was pulled")
    width = max((len(file.name) for file in files), default=0)
    for file in files:
        words = {
            UpstreamState.SAME: "is what its repository has",
            UpstreamState.REPLACED: f"was replaced under its name: {file.revision[:12]} here, {file.now[:12]} there",
            UpstreamState.RENAMED: f"is the same: {file.why}",
            UpstreamState.GONE: file.why,
            UpstreamState.UNASKED: f"was not asked for: {file.why}",
        }[file.state]
        plain = {UpstreamState.SAME: "green", UpstreamState.RENAMED: "green", UpstreamState.UNASKED: "white"}
        colour = plain.get(file.state, "yellow")
        show(f"{file.name:<{width}}  {style(words, colour)}")
        if file.next:
            show(f"  → {file.next}")
    if any(file.state is UpstreamState.REPLACED for file in files):
        show("yours stays, and stays in use, until you take the new one: pulled by its commit, that lies beside it")
