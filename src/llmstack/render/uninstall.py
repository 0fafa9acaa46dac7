"""`uninstall` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmstack.commands import command_line
from llmstack.deploy.uninstall import Removed
from llmstack.paths import Home
from llmstack.render.output import confirm, show


def ask(home: Home, settings: Sequence[Path], *, keep_models: bool) -> bool:
    """settings: files of agents that lead to this stack."""
    show("This stops the stack and removes:")
    for folder in home.folders():
        if folder.exists():
            show(f"  {folder}" + ("   (models stay)" if keep_models and folder == home.data else ""))
    if home.catalog.exists():
        show(f"  {home.catalog}, with what you wrote into it")
    keys = sorted(path.name for path in home.keys.glob("*"))
    if keys:
        show(f"  the keys of {', '.join(keys)}")
    for file in settings:
        show(f"It takes this stack out of {file} again.")
    return confirm("Go on?", command_line("uninstall", "--yes"))


def show_removed(removed: Removed) -> None:
    if not removed.removed:
        show("nothing was installed")
    for path in removed.undone:
        show(f"undone   {path}   (it leads to this stack no more)")
    for path in removed.removed:
        show(f"removed  {path}")
    for entry in removed.kept:
        show(f"kept     {entry.path}   ({entry.why})")
    if removed.freed_mib:
        show(f"freed {removed.freed_mib:,} MiB")
