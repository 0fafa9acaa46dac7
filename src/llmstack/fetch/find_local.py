"""From what a person writes to files on this machine, without the network; `pull` fetches what is missing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from llmstack.catalog.models import Catalog, Model, Quant, quant_of, read_models, shards, stem_of
from llmstack.catalog.overlay import load
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.fetch import foreign_caches, models_dir
from llmstack.fetch.model import ResolvedModel, Source
from llmstack.fetch.model_ref import Reference, ReferenceKind
from llmstack.fetch.model_ref import parse as parse_reference
from llmstack.gguf import printable
from llmstack.paths import Home, catalog_texts
from llmstack.sizes import GIB

MOST_LISTED = 40  # files of a folder


def read_catalog(home: Home) -> Catalog:
    """The shipped models, those of a fetched catalog, the user's own over them. Raises BadInput: file and line.

    A fetched catalog that this version does not understand counts for nothing: `doctor` says so.
    """
    from llmstack.fetch.catalog_in_use import text_in_use

    texts, newer = catalog_texts(home), text_in_use(home)
    if newer is not None:
        with suppress(BadInput):
            return read_models(load(texts, fetched=newer))
    return read_models(load(texts))


def locate(
    home: Home, what: str, *, catalog: Catalog | None = None, caches: foreign_caches.ForeignCaches | None = None
) -> ResolvedModel:
    """Finds what was named, on this machine and without the network; `path` is None when it is not here.

    Raises BadInput for a name that is unknown or a form that is none.
    """
    reference = parse_reference(what)
    if reference.kind is ReferenceKind.PATH or _is_here(reference, what):
        return _path(reference)
    caches = foreign_caches.on_this_machine() if caches is None else caches
    models = catalog or read_catalog(home)
    if reference.kind is ReferenceKind.NAME:
        entry = models.find(what)
        if entry is None:
            near = models.near(what)
            raise BadInput(
                f"there is no model named {what}",
                why=f"did you mean {' or '.join(near)}?" if near else "",
                next=f"{command_line('models', 'list')}   shows the names; hf:OWNER/REPO, a URL or a path do as well",
            )
        return _entry(home, *entry, caches)
    if reference.kind is ReferenceKind.URL:
        source = Source(reference.file, url=reference.text, file=reference.file)
        return _gather(home, reference.file.removesuffix(".gguf"), None, "", (source,), None, caches)
    return _hub(home, reference, models, caches)


def locate_size(
    home: Home, name: str, entry: Model, quant: str, caches: foreign_caches.ForeignCaches | None = None
) -> ResolvedModel:
    """A catalog model in one of its sizes, whether that is here or not."""
    return _entry(home, name, entry, quant, foreign_caches.on_this_machine() if caches is None else caches)


def _is_here(reference: Reference, what: str) -> bool:
    """A file of this very name, such as `model.safetensors`: it is what is meant, and opening it says what it is."""
    by_form = reference.kind in (ReferenceKind.NAME, ReferenceKind.HUB) and not what.startswith("hf:")
    return by_form and Path(what).is_file()


def entry_of_file(
    home: Home, path: Path, *, caches: foreign_caches.ForeignCaches | None = None
) -> tuple[str, Model, str] | None:
    """The catalog's name, entry and size that a file on this machine is, in whosever store; None for a stranger."""
    catalog, caches = read_catalog(home), foreign_caches.on_this_machine() if caches is None else caches
    for name, model in catalog.models.items():
        for quant in model.sizes():
            if _entry(home, name, model, quant, caches).path == path:
                return name, model, quant
    return _entry_of_commit(home, catalog, path)


def _entry_of_commit(home: Home, catalog: Catalog, path: Path) -> tuple[str, Model, str] | None:
    """A file of the store that lies under another commit than the catalog's: the entry's sampling holds for it, too."""
    parts = path.relative_to(home.models).parts if path.is_relative_to(home.models) else ()
    repo, at, _ = "/".join(parts[:2]).partition("@")
    for name, model in catalog.models.items() if at else ():
        for quant, size in model.sizes().items():
            if (size.repo or model.repo, size.names[:1]) == (repo, ("/".join(parts[2:]),)):
                return name, model, quant
    return None


def is_listed(model: ResolvedModel) -> bool:
    """Whether the catalog's dimensions are those of these files: the same commit's, or no name of a file at all."""
    if model.entry is None:
        return False
    if model.entry.url:
        return True
    places = {(source.repo.lower(), source.file, source.revision) for source in model.sources}
    sizes = [sources_of(model.entry, size) for size in model.entry.sizes().values()]
    listed = {(source.repo.lower(), source.file, source.revision) for size in sizes for source in size}
    return places <= listed


def _path(reference: Reference) -> ResolvedModel:
    path = Path(reference.text).expanduser().absolute()
    if not path.exists():
        raise BadInput(
            f"there is no file {path}", next=f"{command_line('models', 'list')}   shows names that can be downloaded"
        )
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if item.suffix == ".gguf" and item.is_file())
        listed = ", ".join(f"{item.name} ({item.stat().st_size / GIB:.2f} GiB)" for item in files[:MOST_LISTED])
        raise BadInput(
            f"{printable(str(path), 1000)} is a folder, not a model file",
            why=f"it holds {printable(listed, 4000)}" if files else "it holds no .gguf file",
            next=command_line("plan", path / "FILE.gguf"),
        )
    names = shards(path.name)
    paths = tuple(path.with_name(name) for name in names)
    return ResolvedModel(stem_of(path.name), paths[0], paths=paths, quant=quant_of(path.name), store="path")


def _entry(home: Home, name: str, model: Model, quant: str, caches: foreign_caches.ForeignCaches) -> ResolvedModel:
    """A catalog model: the size that was named, else one that is here, else the recommended one."""
    if model.handoff:
        return ResolvedModel(name, None, model)
    if model.url:
        source = Source(
            model.url.rpartition("/")[2], url=model.url, file=model.url.rpartition("/")[2], size=model.size,
            sha256=(Quant(sha256=model.sha256).digests or ("",))[0],
        )  # fmt: skip
        return _gather(home, name, model, quant_of(source.name), (source,), None, caches)
    sizes = model.sizes()
    first: ResolvedModel | None = None
    for key in [quant] if quant else sizes:
        candidate = _gather(home, name, model, key, sources_of(model, sizes[key]), projector_of(model), caches)
        if candidate.path is not None:
            return candidate
        first = first or candidate
    if first is None:
        raise BadInput(f"{name} names no file", next=command_line("models", "show", name))
    return first


def sources_of(model: Model, quant: Quant) -> tuple[Source, ...]:
    """The files of one size; the catalog's size is that of all files together."""
    digests = quant.digests or ("",) * len(quant.names)
    single = len(quant.names) == 1
    return tuple(
        Source(
            file.rpartition("/")[2], quant.repo or model.repo, file, model.revision_of(quant),
            size=quant.size if single else 0, sha256=digest,
        )
        for file, digest in zip(quant.names, digests, strict=True)
    )  # fmt: skip


def projector_of(model: Model) -> Source | None:
    """The image encoder of a catalog model."""
    if not model.mmproj:
        return None
    return Source(
        model.mmproj.rpartition("/")[2], model.repo, model.mmproj, model.revision,
        size=model.mmproj_size, sha256=model.mmproj_sha256,
    )  # fmt: skip


def drafter_of(model: Model) -> Source | None:
    """The small model that may guess ahead for a catalog model."""
    drafter = model.drafter
    if drafter is None:
        return None
    return Source(
        drafter.file.rpartition("/")[2],
        drafter.repo,
        drafter.file,
        drafter.revision,
        size=drafter.size,
        sha256=drafter.sha256,
    )


def find_one(home: Home, source: Source, caches: foreign_caches.ForeignCaches | None = None) -> Path | None:
    """A single file on this machine, in whosever store."""
    return _one(home, source, foreign_caches.on_this_machine() if caches is None else caches)


def _hub(home: Home, reference: Reference, models: Catalog, caches: foreign_caches.ForeignCaches) -> ResolvedModel:
    """A repository's file. Without a file's name the network must say which there are, unless one is here."""
    if reference.file:
        files = shards(reference.file)
        sources = tuple(Source(file.rpartition("/")[2], reference.repo, file, reference.revision) for file in files)
        return _gather(
            home, stem_of(files[0]), _listed(models, reference.repo), quant_of(files[0]), sources, None, caches
        )
    listed = _entry_of(models, reference)
    if listed is not None:
        return _entry(home, *listed, caches)
    folder = home.models / reference.repo
    here = {
        item.path.relative_to(folder).as_posix(): item.size
        for item in models_dir.contents(home)
        if not item.partial and item.path.is_relative_to(folder)
    }
    if here:
        from llmstack.fetch import hub

        try:
            files = hub.choose(reference.repo, here, reference.quant)
        except NotSo:
            files = ()
        if files:
            return _hub(
                home,
                Reference(ReferenceKind.HUB, reference.text, reference.repo, files[0], "", reference.revision),
                models,
                caches,
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
    caches: foreign_caches.ForeignCaches,
) -> ResolvedModel:
    """Looks for every file of a model: all shards must lie in one folder, as llama.cpp wants them."""
    own = tuple(own_path(home, source) for source in sources)
    present = tuple(path.is_file() for path in own)
    image = _one(home, projector, caches) if projector else None
    if all(present):
        return ResolvedModel(name, own[0], entry, quant, own, image, "own", sources, (), projector)
    if not any(present):
        copies = [foreign_caches.find(_query(source), caches) if source.repo else None for source in sources]
        paths = tuple(item.path for item in copies if item is not None)
        if len(paths) == len(sources) and (len(paths) == 1 or len({path.parent for path in paths}) == 1):
            store = next(item.store for item in copies if item is not None)
            return ResolvedModel(name, paths[0], entry, quant, paths, image, store, sources, (), projector)
    missing = tuple(source for source, here in zip(sources, present, strict=True) if not here)
    return ResolvedModel(name, None, entry, quant, (), image, "", sources, missing, projector)


def own_path(home: Home, source: Source) -> Path:
    """Where the stack's own copy is or would be: beside one of another commit, where a commit is asked for."""
    if source.url:
        return models_dir.place_of_url(home, source.url, source.file)
    if _is_of_another_commit(models_dir.place(home, source.repo, shards(source.file)[0]), source):
        return models_dir.place(home, f"{source.repo}@{source.revision[:12]}", source.file)
    return models_dir.place(home, source.repo, source.file)


def _is_of_another_commit(path: Path, source: Source) -> bool:
    """Whether a file that is here under this name may be another one than the commit that is asked for has."""
    if not models_dir.COMMIT.fullmatch(source.revision) or not path.is_file():
        return False
    record = models_dir.read_record(path)
    if record is None or (source.sha256 and source.sha256 == record.sha256):
        return False
    commits = models_dir.COMMIT.findall(record.source)
    return bool(commits) and source.revision not in commits


def _one(home: Home, source: Source, caches: foreign_caches.ForeignCaches) -> Path | None:
    own = own_path(home, source)
    if own.is_file():
        return own
    copy = foreign_caches.find(_query(source), caches) if source.repo else None
    return copy.path if copy else None


def _query(source: Source) -> foreign_caches.FileQuery:
    return foreign_caches.FileQuery(source.repo, source.file, source.revision, source.size, source.sha256)


def not_here(model: ResolvedModel) -> MissingPart:
    """The error for a model that is not on this machine while the network is not to be used."""
    return MissingPart(
        f"{model.name} is not on this machine, and this is offline mode",
        why=f"{len(model.missing)} of {max(len(model.sources), 1)} files are missing",
        next=(
            f"{command_line('models', 'pull', model.name)}   with a network, "
            f"or: {command_line('models', 'list')}   shows what is here"
        ),
    )
