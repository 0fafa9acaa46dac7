"""`llmstack logs`."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import datetime

import click

from llmstack.cli.options import json_option, service_argument
from llmstack.commands import command_line
from llmstack.errors import BadInput, NotSo

_AGO = re.compile(r"^(\d+)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_since(text: str, now_s: float) -> float:
    """`90s`, `10m`, `2h`, `1d` ago, or a local date and time in ISO form; epoch seconds. Raises BadInput."""
    ago = _AGO.match(text)
    if ago:
        return now_s - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadInput(f"--since {text} is no time", next="say 10m, 2h, 1d, or 2026-11-20T17:00") from None


@click.command(help="Show the logs of the server and the proxy, merged by time.")
@service_argument
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines until ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=None, help="How many lines (default 50).")
@click.option("--since", help="Only lines since then: 10m, 2h, 1d, or 2026-11-20T17:00.")
@click.option("--raw", "is_raw", is_flag=True, help="Every line as the service wrote it, nothing folded.")
@json_option
def command(
    service: str | None, follow: bool, lines: int | None, since: str | None, is_raw: bool, as_json: bool
) -> int:
    from llmstack.deploy.supervisors import supervisor_for
    from llmstack.paths import home
    from llmstack.render.logs import show_following, show_lines, show_lines_json

    if follow and as_json:
        raise BadInput("--follow has no end, so it cannot be one JSON object", next=command_line("logs", "-f"))
    since_s = parse_since(since, time.time()) if since else None
    last = 50 if lines is None and since_s is None else lines
    supervisor = supervisor_for(home())
    names = (service,) if service else ("server", "proxy")
    if not supervisor.status() and not supervisor.logs(names, last=1, since_s=None):
        raise NotSo("nothing has been started yet, so there are no logs", next=command_line("up", "--demo"))
    following = supervisor.follow(names) if follow else None
    shown = supervisor.logs(names, last=last, since_s=since_s)
    if as_json:
        show_lines_json(shown)
        return 0
    if following is None:
        show_lines(shown, is_raw=is_raw)
    else:
        with suppress(KeyboardInterrupt):  # the way to end it, so it ended well
            show_following(shown, following, is_raw=is_raw)
    return 0
