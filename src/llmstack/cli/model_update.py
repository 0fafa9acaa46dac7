"""`llmstack models update NAME`: what a repository has now, beside the old file; then the stack moves to it."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option


@click.command("update")
@click.argument("name")
@click.option("--no-up", is_flag=True, help="Only pull it; the stack stays on the file it runs.")
@json_option
def update_command(name: str, no_up: bool, as_json: bool) -> int:
    """Pull what the repository of a model has under its name now, and move the stack to it.

    The file that is here stays beside it. A stack that runs it is started on the new one, with the same wishes; when
    that fails, the old one runs again.
    """
    from llmstack.deploy.move_model import moved_to, runs_on
    from llmstack.fetch.newer import pull_newer
    from llmstack.paths import home
    from llmstack.render.found import show_newer
    from llmstack.render.models import PullProgress
    from llmstack.render.output import StepProgress, show_json, warn

    folders = home().make()
    progress = PullProgress()
    try:
        models = pull_newer(folders, name, progress)
    finally:
        progress.close()
    rows = []
    for model in models:
        is_moved = False
        if model.after is not None and not no_up and runs_on(folders, model.before):
            with StepProgress() as steps:
                notices = moved_to(folders, model.reference, steps, steps.download)
            for sentence in notices:
                warn(sentence)
            is_moved = True
        rows.append({
            "name": model.name, "before": [str(path) for path in model.before], "revision": model.revision,
            "now": model.now, "reference": model.reference, "moved": is_moved,
            "after": [str(path) for path in model.after.paths] if model.after is not None else [],
        })  # fmt: skip
        if not as_json:
            show_newer(model, is_moved=is_moved)
    if as_json:
        show_json({"models": rows})
    return 0
