"""`llmstack restart`."""

from __future__ import annotations

import click

from llmstack.cli.options import json_option, service_argument


@click.command(help="Restart both services, or one, and wait until they answer.")
@service_argument
@json_option
def command(service: str | None, as_json: bool) -> int:
    from llmstack import stackfile
    from llmstack.deploy.apply import restart
    from llmstack.deploy.proxy_alone import restart_alone
    from llmstack.deploy.status import gather
    from llmstack.paths import home
    from llmstack.render.output import StepProgress, emit
    from llmstack.render.status import show_status

    folders = home()
    with StepProgress() as progress:
        again = restart if stackfile.read_alone(folders) is None else restart_alone
        again(folders, (service,) if service else (), progress)
    status = gather(folders)
    emit(status, as_json, show_status)
    return 0
