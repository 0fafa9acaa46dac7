"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmstack.commands import command_line
from llmstack.errors import BadInput

if TYPE_CHECKING:
    from llmstack.deploy.machine_record import Machine

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


def supposed_options(command: Command) -> Command:
    """`--gpu`, `--vram`, `--ram`: another card or memory than this machine has."""
    for option in (
        click.option("--ram", type=MemorySize(), help="As if the machine had this much RAM, such as 32GiB."),
        click.option("--vram", type=MemorySize(), help="As if the GPU had this much memory, such as 12GiB."),
        click.option(
            "--gpu",
            "gpus",
            multiple=True,
            metavar="NAME",
            help='As if this card were in it, such as "RTX 4070"; again for two.',
        ),
    ):
        command = option(command)
    return command


def supposed_machine(machine: Machine, gpus: tuple[str, ...], vram: int | None, ram: int | None) -> Machine:
    """The machine itself where none of these options is given. Raises BadInput for a card that is not known."""
    if not gpus and vram is None and ram is None:
        return machine
    from llmstack.deploy.machine_record import Machine
    from llmstack.hardware import as_if
    from llmstack.plan.card_memory import card_named
    from llmstack.plan.devices import with_ids

    cards = tuple(with_ids(card_named(name, vram) for name in gpus))
    supposed = as_if(machine.hardware, cards=cards, vram_mib=vram, ram_mib=ram)
    return Machine(supposed, warnings=machine.warnings if vram is None and not gpus else ())


def service_argument(command: Command) -> Command:
    return click.argument("service", required=False, type=click.Choice(["server", "proxy"]))(command)
