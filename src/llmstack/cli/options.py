"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def service_argument(command: Command) -> Command:
    return click.argument("service", required=False, type=click.Choice(["server", "proxy"]))(command)
