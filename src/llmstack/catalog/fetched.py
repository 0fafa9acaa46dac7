"""A catalog that was fetched: what it may say, and what it changes. Pure.

It holds models and nothing else: routes or an engine elsewhere would send prompts to whoever wrote the file.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import msgspec

from llmstack.catalog.models import Catalog, Model, read_models
from llmstack.catalog.overlay import Overlay, parse
from llmstack.errors import BadInput

MOST_BYTES = 4 << 20  # the shipped one has 90 kB


class ChangeOfEntry(enum.StrEnum):
    """What becomes of a name."""

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class EntryDifference:
    """keys: of the entry, that are otherwise; with a table's name before them."""

    name: str
    change: ChangeOfEntry
    keys: tuple[str, ...] = ()


def read(text: bytes) -> Catalog:
    """Every entry, held against the same rules as the shipped ones. Raises BadInput that says what is wrong."""
    if len(text) > MOST_BYTES:
        raise BadInput(f"this catalog has {len(text):,} bytes, and {MOST_BYTES:,} are taken at most")
    document = parse(text, "the fetched catalog")
    for key in document.data:
        if key not in ("models", "catalog"):
            raise BadInput(
                f"the fetched catalog has [{key}]: only models may come from elsewhere",
                why="what decides where prompts go is written on this machine alone",
            )
    catalog = read_models(Overlay(document.data, document))
    for name, model in catalog.models.items():
        problem = _problem(model)
        if problem:
            raise BadInput(f"models.{name} of the fetched catalog {problem}")
    if not catalog.models:
        raise BadInput("the fetched catalog has no models")
    return catalog


def _problem(model: Model) -> str:
    if model.handoff:
        return "names an engine elsewhere, which would get the prompts"
    if not model.checked:
        return "lacks `checked`, the day on which its facts were looked up"
    if model.url and not (model.url.startswith("https://") and re.fullmatch(r"[0-9a-f]{64}", str(model.sha256))):
        return "is a plain download, which needs https and a sha256"
    return ""


def newest_day(catalog: Catalog) -> str:
    """The last day (ISO) on which an entry was looked up; empty where none says."""
    return max((model.checked for model in catalog.models.values()), default="")


def differences(before: Catalog, after: Catalog) -> tuple[EntryDifference, ...]:
    """By name, those that are new first."""
    added = [EntryDifference(name, ChangeOfEntry.ADDED) for name in after.models if name not in before.models]
    gone = [EntryDifference(name, ChangeOfEntry.GONE) for name in before.models if name not in after.models]
    changed = [
        EntryDifference(name, ChangeOfEntry.CHANGED, keys)
        for name, model in after.models.items()
        if name in before.models and (keys := _keys(before.models[name], model))
    ]
    return (*added, *changed, *gone)


def _keys(before: Model, after: Model) -> tuple[str, ...]:
    keys = []
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    for name in old:
        if old[name] == new[name]:
            continue
        if isinstance(old[name], dict):
            inner = {*old[name], *new[name]}
            keys += [f"{name}.{key}" for key in sorted(inner) if old[name].get(key) != new[name].get(key)]
        else:
            keys.append(name)
    return tuple(keys)
