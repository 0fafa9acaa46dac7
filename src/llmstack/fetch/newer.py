"""What a model's repository has under its name now, pulled beside the file that is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import MissingPart, NotSo
from llmstack.fetch import hub, models_dir
from llmstack.fetch.find_local import locate
from llmstack.fetch.inventory import stored_files
from llmstack.fetch.model import ResolvedModel
from llmstack.fetch.progress import OnTransfer, quiet
from llmstack.fetch.pull import resolve
from llmstack.fetch.upstream_state import UpstreamFile, UpstreamState, origin_of, state_of
from llmstack.gguf.shards import shard_name
from llmstack.paths import Home


@dataclass(frozen=True, slots=True)
class Newer:
    """One model. before: its files, which stay. after: what was pulled; None where the repository has the same.

    reference: what other commands take for the new one. revision, now: the commits of both.
    """

    name: str
    before: tuple[Path, ...]
    after: ResolvedModel | None = None
    reference: str = ""
    revision: str = ""
    now: str = ""


def pull_newer(home: Home, name: str, on_progress: OnTransfer = quiet) -> tuple[Newer, ...]:
    """Each model that `name` stands for in the stack's own store: a file, OWNER/REPO/FILE, or a name of the catalog.

    Raises NotSo for what is not there, did not come from the hub, or is gone from its repository; MissingPart offline.
    """
    if hub.offline():
        raise MissingPart("whether a file changed is asked of the hub, and this is offline mode")
    models = _models(home, name)
    if not models:
        elsewhere = locate(home, name).store if not name.endswith(".gguf") else ""
        raise NotSo(
            f"{name} has no file in the stack's own store",
            why=f"it is in the {elsewhere}, and that program's to update" if elsewhere not in ("", "path") else "",
            next=f"{command_line('models', 'disk')}   lists what is there",
        )
    return tuple(_newer(home, files, on_progress) for files in models)


def _models(home: Home, name: str) -> list[list[models_dir.Stored]]:
    """The files by model: all shards of one are asked for together. Companions go with the models that need them."""
    files = set(stored_files(home, name))
    models: dict[Path, list[models_dir.Stored]] = {}
    for stored in models_dir.contents(home):
        if stored.path in files and not stored.partial and not hub.companion(stored.path.name):
            shard = shard_name(stored.path.name)
            models.setdefault(stored.path.with_name(shard.stem if shard else stored.path.name), []).append(stored)
    return list(models.values())


def _newer(home: Home, files: list[models_dir.Stored], on_progress: OnTransfer) -> Newer:
    before = tuple(stored.path for stored in files)
    states = [state_of(stored) for stored in files]
    for state in states:
        if state.state in (UpstreamState.GONE, UpstreamState.UNASKED):
            raise NotSo(
                f"{state.name} cannot be brought up to date" if state.state is UpstreamState.UNASKED else
                f"{state.name} is gone from where it came",
                why=state.why, next=state.next or command_line("models", "list", "--check"),
            )  # fmt: skip
    changed = [state for state in states if state.state is UpstreamState.REPLACED]
    first = changed[0] if changed else states[0]
    if not changed:
        return Newer(first.name, before, revision=first.revision, now=first.now)
    reference = _reference(files, first)
    return Newer(
        first.name, before, resolve(home, reference, on_progress=on_progress, projector=False), reference,
        first.revision, first.now,
    )  # fmt: skip


def _reference(files: list[models_dir.Stored], changed: UpstreamFile) -> str:
    record = files[0].record
    origin = origin_of(record.source) if record is not None else None
    assert origin is not None  # else it was not asked for
    return f"hf:{origin[0]}/{origin[2]}@{changed.now}"
