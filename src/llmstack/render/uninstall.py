"""`uninstall` on the terminal."""

from __future__ import annotations

import click

from llmstack.deploy.uninstall import Removed
from llmstack.paths import Home
from llmstack.render.output import show


def ask(home: Home, *, keep_models: bool) -> bool:
    show("This stops the stack and removes:")
    for folder in home.folders():
        if folder.exists():
            show(f"  {folder}" + ("   (models stay)" if keep_models and folder == home.data else ""))
    return click.confirm("Go on?", default=False)


def show_removed(removed: Removed) -> None:
    if not removed.removed:
        show("nothing was installed")
    for path in removed.removed:
        show(f"removed  {path}")
    for entry in removed.kept:
        show(f"kept     {entry.path}   ({entry.why})")
    if removed.freed_mib:
        show(f"freed {removed.freed_mib:,} MiB")
