"""The running stack on another file of its model, with the wishes that it was asked for; all or nothing, as `up` is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmstack import stackfile
from llmstack.deploy.apply import up
from llmstack.deploy.planning import UpRequest
from llmstack.deploy.prepare import prepare
from llmstack.fetch.progress import OnTransfer
from llmstack.paths import Home
from llmstack.plan import Goal


def runs_on(home: Home, paths: tuple[Path, ...]) -> bool:
    """Whether the deployed model is one of these files."""
    deployed = stackfile.read(home)
    return deployed is not None and Path(deployed.model.path) in paths


def moved_to(
    home: Home, reference: str, on_progress: Callable[[str], None], on_download: OnTransfer
) -> tuple[str, ...]:
    """Deploys another model in place of the one that is deployed, under its name. Returns what is to be said.

    Raises what `prepare` and `up` raise; the stack then runs as it did.
    """
    deployed = stackfile.read(home)
    assert deployed is not None
    request = UpRequest(reference, goal=deployed.goal or Goal(), name=deployed.model.name)
    prepared = prepare(home, request, on_progress, on_download)
    return (*prepared.warnings, *up(home, prepared.deployment, on_progress).notices)
