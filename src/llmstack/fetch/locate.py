"""From what a person writes to files on this machine: looked up first, downloaded only if asked to.

`locate` never touches the network; `resolve` pulls what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmstack.catalog.models import Catalog, Model, Quant, quant_of, read_models, shards, stem_of
from llmstack.catalog.overlay import load
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.fetch import library, stores
from llmstack.fetch.progress import Report, quiet
from llmstack.fetch.reference import Kind, Reference
from llmstack.fetch.reference import parse as parse_reference
from llmstack.hardware import Hardware
from llmstack.paths import Home, catalog_texts


@dataclass(frozen=True, slots=True)
class Source:
    """Where one file comes from: a repository's file, or a URL. size and sha256 as far as the catalog says."""

    name: str
    repo: str = ""
    file: str = ""
    revision: str = "main"
    url: str = ""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was named. path: its file, the first shard of a split one; None while it is not here.

    name: the catalog's name, else the file's. quant: the size that was chosen. entry: the catalog's, None for
    a file of one's own. paths: all shards. mmproj: its image encoder. store: where it was found ("own" for the
    stack's). sources: what to download, empty for a plain path. missing: those of them that are not here.
    """

    name: str
    path: Path | None
    entry: Model | None = None
    quant: str = ""
    paths: tuple[Path, ...] = ()
    mmproj: Path | None = None
    store: str = ""
    sources: tuple[Source, ...] = ()
    missing: tuple[Source, ...] = ()
    projector: Source | None = None


def read_catalog(home: Home) -> Catalog:
    """The shipped models under the user's own. Raises BadInput that names file and line."""
    return read_models(load(catalog_texts(home)))


def locate(
    home: Home, what: str, *, catalog: Catalog | None = None, known: stores.Stores | None = None
) -> ResolvedModel:
    """Finds what was named, on this machine and without the network; `path` is None when it is not here.

    Raises BadInput for a name that is unknown or a form that is none.
    """
    reference = parse_reference(what)
    if reference.kind is Kind.PATH:
        return _path(reference)
    others = stores.known() if known is None else known
    models = catalog or read_catalog(home)
    if reference.kind is Kind.NAME:
        found = models.find(what)
        if found is None:
            near = models.near(what)
            raise BadInput(
                f"there is no model named {what}",
                why=f"did you mean {' or '.join(near)}?" if near else "",
                next="llmstack models list   shows the names; hf:OWNER/REPO, a URL or a path do as well",
            )
        return _entry(home, *found, others)
    if reference.kind is Kind.URL:
        source = Source(reference.file, url=reference.text, file=reference.file)
        return _gather(home, reference.file.removesuffix(".gguf"), None, "", (source,), None, others)
    return _hub(home, reference, models, others)


def resolve(
    home: Home,
    what: str,
    *,
    offline: bool = False,
    progress: Report = quiet,
    allow_hosts: Sequence[str] = (),
    projector: bool = True,
    hardware: Hardware | None = None,
) -> ResolvedModel:
    """`locate`, and downloads what is missing. Raises MissingPart when offline, and what a pull raises.

    hardware: a catalog model that is not here, named without a size, is pulled in the size that suits this machine.
    """
    from llmstack.fetch.pull import pull

    found = locate(home, what)
    if hardware is not None and found.path is None and found.entry is not None and found.sources:
        found = _suited(home, what, found, hardware)
    return pull(home, found, offline=offline, report=progress, allow_hosts=allow_hosts, projector=projector)


def entry_of_file(home: Home, path: Path, *, known: stores.Stores | None = None) -> tuple[str, Model, str] | None:
    """The catalog's name, entry and size that a file on this machine is, in whosever store; None for a stranger."""
    catalog, others = read_catalog(home), stores.known() if known is None else known
    for name, model in catalog.models.items():
        for quant in model.sizes():
            if _entry(home, name, model, quant, others).path == path:
                return name, model, quant
    return None


def _suited(home: Home, what: str, found: ResolvedModel, hardware: Hardware) -> ResolvedModel:
    if parse_reference(what).kind is not Kind.NAME or ":" in what or found.entry is None:
        return found
    from llmstack.fetch.survey import best

    return locate(home, f"{found.name}:{best(found.name, found.entry, hardware, home.cache).quant}")


def _path(reference: Reference) -> ResolvedModel:
    path = Path(reference.text).expanduser().absolute()
    if not path.exists():
        raise BadInput(f"there is no file {path}", next="llmstack models list   shows names that can be downloaded")
    names = shards(path.name)
    paths = tuple(path.with_name(name) for name in names)
    return ResolvedModel(stem_of(path.name), paths[0], paths=paths, quant=quant_of(path.name), store="path")


def _entry(home: Home, name: str, model: Model, quant: str, others: stores.Stores) -> ResolvedModel:
    """A catalog model: the size that was named, else one that is here, else the recommended one."""
    if model.handoff:
        return ResolvedModel(name, None, model)
    if model.url:
        source = Source(
            model.url.rpartition("/")[2], url=model.url, file=model.url.rpartition("/")[2], size=model.size,
            sha256=(Quant(sha256=model.sha256).digests or ("",))[0],
        )  # fmt: skip
        return _gather(home, name, model, quant_of(source.name), (source,), None, others)
    sizes = model.sizes()
    first: ResolvedModel | None = None
    for key in [quant] if quant else sizes:
        found = _gather(home, name, model, key, sources_of(model, sizes[key]), projector_of(model), others)
        if found.path is not None:
            return found
        first = first or found
    if first is None:
        raise BadInput(f"{name} names no file", next=f"llmstack models show {name}")
    return first


def sources_of(model: Model, quant: Quant) -> tuple[Source, ...]:
    """The files of one size; the catalog's size is that of all files together."""
    digests = quant.digests or ("",) * len(quant.names)
    single = len(quant.names) == 1
    return tuple(
        Source(
            file.rpartition("/")[2], quant.repo or model.repo, file, model.revision,
            size=quant.size if single else 0, sha256=digest,
        )
        for file, digest in zip(quant.names, digests, strict=True)
    )  # fmt: skip


def projector_of(model: Model) -> Source | None:
    """The image encoder of a catalog model."""
    if not model.mmproj:
        return None
    return Source(model.mmproj.rpartition("/")[2], model.repo, model.mmproj, model.revision)


def drafter_of(model: Model) -> Source | None:
    """The small model that may guess ahead for a catalog model."""
    one = model.drafter
    if one is None:
        return None
    return Source(one.file.rpartition("/")[2], one.repo, one.file, one.revision, size=one.size, sha256=one.sha256)


def find_one(home: Home, source: Source, known: stores.Stores | None = None) -> Path | None:
    """A single file on this machine, in whosever store."""
    return _one(home, source, stores.known() if known is None else known)


def _hub(home: Home, reference: Reference, models: Catalog, others: stores.Stores) -> ResolvedModel:
    """A repository's file. Without a file's name the network must say which there are, unless one is here."""
    if reference.file:
        files = shards(reference.file)
        sources = tuple(Source(file.rpartition("/")[2], reference.repo, file, reference.revision) for file in files)
        return _gather(
            home, stem_of(files[0]), _listed(models, reference.repo), quant_of(files[0]), sources, None, others
        )
    listed = _entry_of(models, reference)
    if listed is not None:
        return _entry(home, *listed, others)
    here = [item.path.relative_to(home.models / reference.repo).as_posix() for item in library.contents(home)
            if not item.partial and item.path.is_relative_to(home.models / reference.repo)]  # fmt: skip
    if here:
        from llmstack.fetch import hub

        try:
            files = hub.choose(reference.repo, here, reference.quant)
        except NotSo:
            files = ()
        if files:
            return _hub(
                home,
                Reference(Kind.HUB, reference.text, reference.repo, files[0], "", reference.revision),
                models,
                others,
            )
    quant = f":{reference.quant}" if reference.quant else ""
    return ResolvedModel(
        f"{reference.repo}{quant}", None, _listed(models, reference.repo), reference.quant,
        missing=(Source("", reference.repo, "", reference.revision),),
    )  # fmt: skip


def _entry_of(models: Catalog, reference: Reference) -> tuple[str, Model, str] | None:
    """The catalog's entry whose own repository was named, if it has the size that was asked for."""
    for name, model in models.models.items():
        if model.repo.lower() == reference.repo.lower() and reference.revision == model.revision:
            for size in model.sizes() if reference.quant else ("",):
                if size.lower() == reference.quant.lower():
                    return name, model, size
    return None


def _listed(models: Catalog, repo: str) -> Model | None:
    """The catalog's entry for a repository, for its sampling and context."""
    for model in models.models.values():
        if model.repo.lower() == repo.lower():
            return model
    return None


def _gather(
    home: Home,
    name: str,
    entry: Model | None,
    quant: str,
    sources: tuple[Source, ...],
    projector: Source | None,
    others: stores.Stores,
) -> ResolvedModel:
    """Looks for every file of a model: all shards must lie in one folder, as llama.cpp wants them."""
    own = tuple(own_place(home, source) for source in sources)
    present = tuple(path.is_file() for path in own)
    image = _one(home, projector, others) if projector else None
    if all(present):
        return ResolvedModel(name, own[0], entry, quant, own, image, "own", sources, (), projector)
    if not any(present):
        found = [stores.find(_wanted(source), others) if source.repo else None for source in sources]
        paths = tuple(item.path for item in found if item is not None)
        if len(paths) == len(sources) and (len(paths) == 1 or len({path.parent for path in paths}) == 1):
            store = next(item.store for item in found if item is not None)
            return ResolvedModel(name, paths[0], entry, quant, paths, image, store, sources, (), projector)
    missing = tuple(source for source, here in zip(sources, present, strict=True) if not here)
    return ResolvedModel(name, None, entry, quant, (), image, "", sources, missing, projector)


def own_place(home: Home, source: Source) -> Path:
    if source.url:
        return library.place_of_url(home, source.url, source.file)
    return library.place(home, source.repo, source.file)


def _one(home: Home, source: Source, others: stores.Stores) -> Path | None:
    own = own_place(home, source)
    if own.is_file():
        return own
    found = stores.find(_wanted(source), others) if source.repo else None
    return found.path if found else None


def _wanted(source: Source) -> stores.Wanted:
    return stores.Wanted(source.repo, source.file, source.revision, source.size, source.sha256)


def not_here(found: ResolvedModel) -> MissingPart:
    """The error for a model that is not on this machine while the network is not to be used."""
    return MissingPart(
        f"{found.name} is not on this machine, and this is offline mode",
        why=f"{len(found.missing)} of {max(len(found.sources), 1)} files are missing",
        next=f"llmstack models pull {found.name}   with a network, or: llmstack models list   shows what is here",
    )
