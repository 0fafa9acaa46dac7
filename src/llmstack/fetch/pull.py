"""Downloads what a located model lacks: every file whole and checked, the room for all of them looked at first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmstack.catalog.models import stem_of
from llmstack.commands import command_line
from llmstack.errors import MissingPart, StackError
from llmstack.fetch import hub, models_dir, moved
from llmstack.fetch.find_local import locate, not_here, own_path
from llmstack.fetch.model import ResolvedModel, Source
from llmstack.fetch.progress import OnTransfer, Stage, TransferProgress, quiet
from llmstack.fetch.terms import terms_of
from llmstack.fetch.transfer import RESERVE, Remote, fetch
from llmstack.gguf import Incomplete, read_header
from llmstack.hardware import Hardware
from llmstack.paths import Home
from llmstack.sizes import GIB


def resolve(
    home: Home,
    what: str,
    *,
    offline: bool = False,
    on_progress: OnTransfer = quiet,
    allow_hosts: Sequence[str] = (),
    projector: bool = True,
    hardware: Hardware | None = None,
) -> ResolvedModel:
    """`locate`, and downloads what is missing. Raises MissingPart when offline, and what a pull raises.

    hardware: a catalog model that is not here, named without a size, is pulled in the size that suits this machine.
    """
    model = locate(home, what)
    if hardware is not None:
        from llmstack.fetch.survey import suited

        model = suited(home, what, model, hardware)
    return pull(home, model, offline=offline, on_progress=on_progress, allow_hosts=allow_hosts, projector=projector)


def pull(
    home: Home,
    model: ResolvedModel,
    *,
    offline: bool = False,
    on_progress: OnTransfer = quiet,
    allow_hosts: Sequence[str] = (),
    projector: bool = True,
) -> ResolvedModel:
    """Makes the model's files be here. Raises MissingPart when offline, and what `transfer.fetch` raises."""
    image = model.projector if projector and model.mmproj is None else None
    if model.path is not None and (image is None or offline or hub.offline()):
        return model
    if offline or hub.offline():
        raise not_here(model)
    if model.entry is not None and model.entry.handoff:
        return model
    if model.missing and not model.missing[0].file:
        model = listing(model)
    image = model.projector if projector and model.mmproj is None else None
    missing = () if model.path is not None else model.missing
    on_progress(TransferProgress(Stage.ASKING, model.name))
    terms = terms_of(model) if missing else ""
    if terms:
        on_progress(TransferProgress(Stage.TERMS, model.name, note=terms))
    sources = [*missing, *((image,) if image else ())]
    remotes = [remote_of(source, allow_hosts) for source in sources]
    for source, remote in zip(sources, remotes, strict=True):
        if not source.url and remote.name != source.name:
            note = f"its repository calls it {remote.name} now; the bytes are the same"
            on_progress(TransferProgress(Stage.RENAMED, source.name, note=note))
    _check_room(home, model.name, sources, remotes)
    for source, remote in zip(sources, remotes, strict=True):
        _bring(home, source, remote, model.name, on_progress)
    if model.path is not None:
        return replace(model, mmproj=own_path(home, image) if image else model.mmproj)
    paths = tuple(own_path(home, source) for source in model.sources)
    return replace(
        model,
        path=paths[0],
        paths=paths,
        store="own",
        missing=(),
        mmproj=own_path(home, image) if image else model.mmproj,
    )


def pull_file(home: Home, source: Source, name: str, on_progress: OnTransfer = quiet) -> Path:
    """One file that goes with the model `name`, whole and checked. Raises what `transfer.fetch` raises."""
    remote = remote_of(source, ())
    _check_room(home, name, (source,), (remote,))
    return _bring(home, source, remote, name, on_progress)


def _bring(home: Home, source: Source, remote: Remote, name: str, on_progress: OnTransfer) -> Path:
    """One file to its place, with its record; the same bytes of another commit are not fetched again."""
    target = own_path(home, source)
    if not source.url:
        same = models_dir.link_same(home, source.repo, source.file, remote.sha256, target)
        if same is not None:
            models_dir.write_record(target, remote.url, same.sha256, name)
            return target

    def record(part: Path, digest: str) -> None:
        models_dir.write_record(target, remote.url, digest, name, bytes_at=part)

    fetch(remote, target, on_progress=on_progress, check=check_header, record=record)
    return target


def check_header(path: Path) -> None:
    """Raises GgufError for a file whose header does not hold; a projector and a shard pass by the same rules."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            read_header(_Stream(stream), size)
        except Incomplete as error:
            # the byte count was right, so there is nothing to resume: the file was published like this
            error.next = "pull it again; if it stays so, the file at its source is broken"
            raise


class _Stream:
    def __init__(self, stream: object) -> None:
        self.stream = stream

    def read_at(self, offset: int, length: int) -> bytes:
        self.stream.seek(offset)  # type: ignore[attr-defined]
        data: bytes = self.stream.read(length)  # type: ignore[attr-defined]
        return data


def listing(model: ResolvedModel) -> ResolvedModel:
    """Which files a repository has for the size that was asked for."""
    source = model.missing[0]
    listed = hub.gguf_files(source.repo, source.revision)
    files = hub.choose(source.repo, listed, model.quant)
    sources = tuple(Source(file.rpartition("/")[2], source.repo, file, source.revision) for file in files)
    image = _projector(source, listed)
    return replace(model, name=stem_of(files[0]), sources=sources, missing=sources, projector=image)


def with_listing(model: ResolvedModel) -> ResolvedModel:
    """A model of a repository that the catalog does not know, with its files and its image encoder named."""
    if model.missing and not model.missing[0].file:
        return listing(model)
    source = model.missing[0] if model.missing else None
    if source is None or not source.repo or model.entry is not None or model.projector is not None:
        return model
    try:
        listed = hub.gguf_files(source.repo, source.revision)
    except StackError:
        return model  # the file itself was named: whether it can be had shows when it is asked for
    return replace(model, projector=_projector(source, listed))


def _projector(source: Source, listed: dict[str, int]) -> Source | None:
    file = hub.projector(list(listed))
    if not file:
        return None
    return Source(file.rpartition("/")[2], source.repo, file, source.revision, size=listed[file])


def remote_of(source: Source, allow_hosts: Sequence[str]) -> Remote:
    """Where the bytes of a source are now. One whose name or commit is gone is taken under another name where the
    digest says that it is the same; else nothing is taken. Raises NotSo, MissingPart."""
    if source.url:
        return Remote(source.url, source.name, source.size, source.sha256, allow_hosts=tuple(allow_hosts))
    try:
        remote = hub.describe(source.repo, source.file, source.revision, allow_hosts=allow_hosts)
    except hub.GoneFile as error:
        there = moved.same_bytes(source.repo, source.sha256)
        if there is None:
            error.next = moved.next_step(source.repo, source.file)
            raise
        remote = hub.describe(source.repo, *there, allow_hosts=allow_hosts)
    if source.sha256 and remote.sha256 and remote.sha256 != source.sha256:
        raise MissingPart(
            f"{source.name} was replaced at its source: the hub says SHA-256 {remote.sha256}, "
            f"the catalog {source.sha256}",
            why="the maker published it again, or the repository is in other hands",
            next=f"look at {hub.endpoint()}/{source.repo}, then pull it by hf:{source.repo}/{source.file}",
        )
    return replace(remote, sha256=source.sha256 or remote.sha256)


def _check_room(home: Home, name: str, sources: Sequence[Source], remotes: Sequence[Remote]) -> None:
    """All files together must fit, less what is already here of them."""
    needed = 0
    for source, remote in zip(sources, remotes, strict=True):
        part = own_path(home, source).with_name(f".{source.name}.part")
        needed += max(remote.size - (part.stat().st_size if part.is_file() else 0), 0)
    existing = home.models
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed and free < needed + RESERVE:
        raise MissingPart(
            f"{name} needs {needed / GIB:.1f} GiB on this disk, and {free / GIB:.1f} GiB are free",
            why=f"in {home.models}; {RESERVE >> 20} MiB stay free",
            next=f"{command_line('models', 'remove', 'NAME')}, or set LLMSTACK_HOME to a folder on a larger disk",
        )
