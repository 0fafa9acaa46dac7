"""Which files of the stack's own store a name stands for: what `models remove` deletes."""

from __future__ import annotations

from pathlib import Path

from llmstack.catalog.models import Model
from llmstack.fetch import models_dir
from llmstack.fetch.find_local import drafter_of, locate, own_path, projector_of, read_catalog, sources_of
from llmstack.paths import Home


def stored_files(home: Home, name: str) -> list[Path]:
    """The files of the store that a name stands for: of a catalog model all its sizes, or the one that is named."""
    catalog = read_catalog(home)
    stored = {_final(item.path) for item in models_dir.contents(home)}
    direct = {path for path in stored if name in (path.name, str(path), path.relative_to(home.models).as_posix())}
    if direct:
        return sorted(direct)
    entry = catalog.find(name)
    if entry is None:
        target = locate(home, name, catalog=catalog)
        places = {own_path(home, source) for source in target.sources}
        if not target.sources and target.missing:
            folder = home.models / target.missing[0].repo
            places = {path for path in stored if path.is_relative_to(folder)}
        return sorted(places & stored)
    _, model, quant = entry
    sizes = [size for key, size in model.sizes().items() if quant in ("", key)]
    places = {own_path(home, source) for size in sizes for source in sources_of(model, size)}
    projector = projector_of(model)
    others = {own_path(home, source) for size in model.sizes().values() for source in sources_of(model, size)} - places
    if projector is not None and not others & stored:
        places.add(own_path(home, projector))
    drafter = drafter_of(model)
    if drafter is not None and not others & stored:
        place = own_path(home, drafter)
        if not any(_in_use(home, other, place, stored) for key, other in catalog.models.items() if key != entry[0]):
            places.add(place)
    return sorted(places & stored)


def _in_use(home: Home, model: Model, place: Path, stored: set[Path]) -> bool:
    """Whether this smaller sibling also serves another model of the store."""
    drafter = drafter_of(model)
    sizes = {own_path(home, source) for size in model.sizes().values() for source in sources_of(model, size)}
    return drafter is not None and own_path(home, drafter) == place and bool(sizes & stored)


def _final(path: Path) -> Path:
    """The name a file has or would get: of `.NAME.part` and `NAME.quarantined`, NAME."""
    name = path.name.removesuffix(".quarantined")
    if name.startswith(".") and name.endswith(".part"):
        name = name[1:].removesuffix(".part")
    return path.with_name(name)
