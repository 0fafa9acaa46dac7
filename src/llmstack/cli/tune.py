"""`llmstack tune`."""

from __future__ import annotations

import sys

import click

from llmstack.cli.options import json_option, yes_option
from llmstack.commands import command_line
from llmstack.errors import Interrupted

HELP = """Find faster flags for the deployed model by measuring: -ub, -t, the KV type, the load mode, -ncmoe and
speculative decoding, each under the plan's memory budgets.

Shows what it gained and asks before anything changes; every later plan of this model then uses it, with its evidence.
The KV type only ever gets finer, never coarser. Ctrl-C ends it: the best so far is shown, and nothing changes."""


@click.command(help=HELP)
@click.option(
    "--for", "aim", type=click.Choice(["session", "prefill", "decode"]), default="session", show_default=True,
    help="What should be fast: a whole coding session, prompts, or answers.",
)  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0.1, 600), default=30.0, show_default=True, help="At most this long.")
@click.option("--keep-flag", "pinned", multiple=True, metavar="FLAG", help="Leave this flag as it is (-ub, -t, …).")
@click.option("--forget", is_flag=True, help="Drop what was tuned for the deployed model.")
@yes_option
@json_option
def command(aim: str, minutes: float, pinned: tuple[str, ...], forget: bool, yes: bool, as_json: bool) -> int:
    from llmstack.bench.tune import Aim, keep, tune
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, show, show_json
    from llmstack.render.tune import show_tuned, tuned_json

    folders = home()
    if forget:
        return _forget(as_json)
    with StepProgress() as progress:
        result = tune(folders, progress, aim=Aim(aim), minutes=minutes, pinned=pinned)
    offered = bool(result.changed) and result.complete  # stopped early, nothing is confirmed
    apply = offered and yes
    if as_json:
        show_json(tuned_json(result, applied=apply))
    else:
        show_tuned(result)
    if offered and not yes and not as_json:
        if sys.stdin.isatty():
            apply = click.confirm("Use these flags from now on?", default=True, err=True)
        else:
            show(
                f"not applied: there is no terminal to ask at; {command_line('tune', '--yes')}   applies what it finds"
            )
    if apply:
        keep(folders, result)
        _apply()
        if not as_json:
            show(f"the stack runs with them now; {command_line('tune', '--forget')}   goes back")
    if not result.complete:
        if as_json:  # one object on stdout; it says "complete": false
            return Interrupted.exit_status
        raise Interrupted("stopped early", next=command_line("tune"))
    return 0


def _apply() -> None:
    from llmstack import stackfile
    from llmstack.deploy.apply import up
    from llmstack.deploy.planning import UpRequest
    from llmstack.deploy.prepare import prepare
    from llmstack.paths import home
    from llmstack.plan import Goal
    from llmstack.render.output import StepProgress

    with StepProgress() as progress:
        deployed = stackfile.read(home())
        goal = Goal(pins=deployed.pins if deployed is not None else {})
        up(home(), prepare(home(), UpRequest(goal=goal), progress).deployment, progress)


def _forget(as_json: bool) -> int:
    from llmstack import stackfile
    from llmstack.deploy import tuned
    from llmstack.detect.model_file import open_model
    from llmstack.errors import NotSo
    from llmstack.paths import home
    from llmstack.render.output import show, show_json

    stack = stackfile.read(home())
    if stack is None:
        raise NotSo("nothing is deployed yet", next=command_line("up", "MODEL"))
    had = tuned.forget(home(), open_model(stack.model.path).identity)
    if had:
        _apply()
    if as_json:
        show_json({"forgotten": had})
    else:
        show("forgotten; the stack runs as planned again" if had else "nothing was tuned for this model")
    return 0
