"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from llmstack.commands import command_line
from llmstack.errors import BadInput

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


# MiB beyond what such programs hold when the plan is made: windows and a browser that come later; a game.
KEPT_FREE = {"desktop": 1024, "games": 4096}
_MIB = {"": 1.0, "m": 1.0, "mb": 1e6 / 2**20, "mib": 1.0, "g": 1024.0, "gb": 1e9 / 2**20, "gib": 1024.0}


class MemorySize(click.ParamType[int]):
    """MiB of `12GiB`, `12g`, `12` or `12288`. Raises BadInput for anything else."""

    name = "SIZE"
    gib_below = 1024.0  # a bare number below it counts GiB: nobody plans for a card with 12 MiB

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = value.strip().lower().rstrip("bgimkt")
        factor = _MIB.get(value.strip().lower()[len(number) :].strip())
        try:
            mib = float(number) * factor if factor else -1.0
            if number == value.strip() and mib < self.gib_below:
                mib *= 1024
        except ValueError:
            mib = -1.0
        if not 0 <= mib < 1 << 30:
            raise BadInput(f"{value} is no amount of memory", next="for example: --vram 12GiB --ram 32GiB")
        return int(mib)


class KeptFree(MemorySize):
    """MiB of a size, or of what a card is also used for (KEPT_FREE)."""

    name = "SIZE"
    gib_below = 64.0  # 512 is a sensible number of MiB to keep free

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        mib = KEPT_FREE.get(value.strip().lower())
        return mib if mib is not None else super().convert(value, param, ctx)


def machine_option(command: Command) -> Command:
    """`--hardware FILE`, as `hardware_file`."""
    return click.option(
        "--hardware",
        "hardware_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Plan for another machine (its `{command_line('doctor', '--hardware')}`).",
    )(command)


def service_argument(command: Command) -> Command:
    return click.argument("service", required=False, type=click.Choice(["server", "proxy"]))(command)
