"""What files on the hub would do on a machine: planned from their headers, which are read in parts and kept.

A header is kept by the file's digest, so a file that was replaced under its name is another one; a plan by everything
that it depends on. A few headers are read at once: the hub counts requests, and so does the user's patience.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from llmstack import __version__
from llmstack.catalog.models import Model, family_of
from llmstack.errors import StackError
from llmstack.fetch import hub
from llmstack.fetch.discover import FoundFile, FoundRepo
from llmstack.fetch.header_cache import identity_of
from llmstack.fetch.model import Source
from llmstack.fetch.survey import COMFORTABLE_TPS, ENOUGH_TPS, coarse, planner_digest
from llmstack.gguf import GgufHeader, merge
from llmstack.gguf.kinds import kind_of_header, other_file
from llmstack.hardware import Hardware
from llmstack.kept_headers import kept_header
from llmstack.paths import write_private
from llmstack.plan import Goal, Infeasible, make_plan, read_facts

AT_ONCE = 4


class FoundRow(msgspec.Struct, frozen=True):
    """One file on one machine. ref: what `plan`, `up` and `pull` take. rank: of the catalog's model that it is a size
    of, 0 where none is known. context in tokens, speeds in tokens/s. arch, params: what its header says of itself."""

    ref: str
    repo: str
    revision: str
    quant: str
    bytes: int
    sha256: tuple[str, ...]
    downloads: int
    modified: str
    license: str
    gated: bool
    known: bool
    fits: bool
    context: int = 0
    decode_tps: float = 0.0
    prefill_tps: float = 0.0
    arch: str = ""
    params: int = 0
    rank: int = 0
    reason: str = ""


class _Planned(msgspec.Struct, frozen=True):
    """What is kept of a plan, as FoundRow has it."""

    fits: bool
    context: int = 0
    decode_tps: float = 0.0
    prefill_tps: float = 0.0
    arch: str = ""
    params: int = 0
    reason: str = ""


def plan_all(
    repos: Sequence[FoundRepo],
    hardware: Hardware,
    cache: Path,
    models: Mapping[str, Model],
    *,
    ctx: int | None = None,
    every: bool = False,
) -> Iterator[FoundRow]:
    """A row for each repository's best size here, as they are done; with `every`, for each size. ctx: tokens wanted."""
    machine = coarse(hardware)

    def rows(repo: FoundRepo) -> list[FoundRow]:
        if repo.problem or not repo.files:
            reason = repo.problem or "no whole GGUF model in it"
            return [_row(repo, None, _Planned(False, reason=reason), models)]
        looked = []
        for file in repo.files if every else _in_turn(repo.files):
            looked.append(_row(repo, file, _plan(repo, file, machine, cache, ctx), models))
            if not every and looked[-1].decode_tps >= ENOUGH_TPS:
                break
        return looked if every else [max(looked, key=lambda row: (row.decode_tps, -row.bytes))]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(rows, repos):
            yield from done


def ranked(rows: Sequence[FoundRow]) -> list[FoundRow]:
    """Those that fit first; of them the ones whose quality is known, at reading speed; then the most downloaded."""

    def key(row: FoundRow) -> tuple[object, ...]:
        quick = row.decode_tps >= COMFORTABLE_TPS
        return (not row.fits, not quick, row.rank or 999, not row.known, -row.downloads, -row.decode_tps)

    return sorted(rows, key=key)


def reference(repo: FoundRepo, file: FoundFile) -> str:
    """A file by repository, name and commit: another file under the same name is another reference."""
    return f"hf:{repo.repo}/{file.files[0]}@{repo.revision}"


def _in_turn(files: Sequence[FoundFile]) -> list[FoundFile]:
    """The common sizes of about 4.5 bits first, then the smaller ones, the largest first; a model's own family."""
    by_family: dict[str, list[FoundFile]] = {}
    for file in files:
        by_family.setdefault(family_of(file.files[0]), []).append(file)
    family = max(by_family.values(), key=len)
    first = next((file for quant in hub.PREFERRED for file in family if file.quant == quant), family[0])
    smaller = sorted((file for file in family if file.bytes < first.bytes), key=lambda file: -file.bytes)
    return [first, *smaller[::2][:3]]


def _row(repo: FoundRepo, file: FoundFile | None, planned: _Planned, models: Mapping[str, Model]) -> FoundRow:
    return FoundRow(
        ref=reference(repo, file) if file is not None else f"hf:{repo.repo}",
        repo=repo.repo,
        revision=repo.revision,
        quant=file.quant if file is not None else "",
        bytes=file.bytes if file is not None else 0,
        sha256=file.sha256 if file is not None else (),
        downloads=repo.downloads,
        modified=repo.modified,
        license=repo.license,
        gated=repo.gated,
        known=repo.known,
        rank=_rank(repo, models),
        **{name: getattr(planned, name) for name in planned.__struct_fields__},
    )


def _rank(repo: FoundRepo, models: Mapping[str, Model]) -> int:
    """The catalog's quality rank of the model that a repository holds sizes of, by its name or what it was made of."""
    names = {repo.repo.rpartition("/")[2].lower().removesuffix("-gguf")}
    names |= {name.rpartition("/")[2].lower() for name in repo.base}
    ranks = (
        model.quality
        for model in models.values()
        if model.quality and model.repo.rpartition("/")[2].lower().removesuffix("-gguf") in names
    )
    return min(ranks, default=0)


def _plan(repo: FoundRepo, file: FoundFile, machine: Hardware, cache: Path, ctx: int | None) -> _Planned:
    identity = "|".join(file.sha256) or reference(repo, file)
    key = _key(__version__, identity, ctx, msgspec.to_builtins(machine), planner_digest())
    entry = cache / "found" / f"{key}.json"
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(entry.read_bytes(), type=_Planned)
    try:
        planned = _planned(merge(_headers(repo, file, cache)), machine, ctx)
    except StackError as error:
        return _Planned(False, reason=error.what)  # the next look may find it: a network is no property of a file
    with suppress(OSError):
        write_private(entry, msgspec.json.encode(planned))
    return planned


def _planned(header: GgufHeader, machine: Hardware, ctx: int | None) -> _Planned:
    kind = kind_of_header(header)
    if kind:
        return _Planned(False, arch=header.arch, reason=other_file(kind).what)
    facts = read_facts(header)
    about = {"arch": facts.arch, "params": facts.n_params}
    try:
        plan = make_plan(facts, machine, Goal(ctx=ctx))
    except Infeasible as error:
        return _Planned(False, **about, reason=error.reason)  # type: ignore[arg-type]
    return _Planned(
        True,
        context=plan.n_ctx_slot,
        decode_tps=round(plan.predicted.decode_tps, 1),
        prefill_tps=round(plan.predicted.prefill_tps, 1),
        **about,  # type: ignore[arg-type]
    )


def _headers(repo: FoundRepo, file: FoundFile, cache: Path) -> list[GgufHeader]:
    from llmstack.fetch.remote import header_of

    headers = []
    for number, name in enumerate(file.files):
        digest = file.sha256[number] if file.sha256 else ""
        source = Source(name.rpartition("/")[2], repo.repo, name, repo.revision, sha256=digest)
        identity = identity_of(source) or f"{repo.repo}@{repo.revision}/{name}"
        headers.append(kept_header(cache, identity, partial(header_of, source)))
    return headers


def _key(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]
