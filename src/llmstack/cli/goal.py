"""The options that say what a plan should achieve; `plan` and `up` share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmstack.cli.options import Command, KeptFree
from llmstack.errors import BadInput
from llmstack.llama_server.values import KV_TYPES

if TYPE_CHECKING:
    from llmstack.plan import Goal


def goal_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option("--ctx", type=click.IntRange(256), metavar="TOKENS", help="Context of one conversation."),
            click.option("--kv-type", type=click.Choice(KV_TYPES), help="Type of the KV cache."),
            click.option("--parallel", type=click.IntRange(1, 64), metavar="N", help="Slots: conversations at once."),
            click.option(
                "--vision/--no-vision",
                default=None,
                help="Read images whatever it costs, or not at all (default: where it costs little).",
            ),
            click.option("--mmproj", type=click.Path(dir_okay=False), metavar="FILE", help="The image encoder's file."),
            click.option(
                "--keep-free",
                type=KeptFree(),
                help="VRAM of each card for other programs: a size, desktop (1 GiB) or games (4 GiB).",
            ),
            click.option("--set", "pins", multiple=True, metavar="FLAG=VALUE", help="Pin a llama-server flag."),
        )
    ):
        command = option(command)
    return command


def make_goal(**options: Any) -> Goal:
    """The Goal of these options. Raises BadInput for a --set that is no FLAG=VALUE."""
    from llmstack.plan import Goal

    pins = {}
    for pin in options["pins"]:
        flag, equals, value = pin.partition("=")
        if not flag or not equals:
            raise BadInput(f"--set {pin} is not FLAG=VALUE", next="for example: --set ngl=30 --set nkvo=true")
        pins[flag] = value
    vision, mmproj = options["vision"], options["mmproj"] or ""
    if mmproj and vision is False:
        raise BadInput("--mmproj names an image encoder, and --no-vision leaves it out", next="give one of the two")
    return Goal(
        ctx=options["ctx"],
        kv_type=options["kv_type"],
        parallel=options["parallel"],
        pins=pins,
        vision=True if mmproj else vision,
        mmproj_path=mmproj,
        keep_free_mib=options["keep_free"],
    )
