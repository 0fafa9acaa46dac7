"""Which image encoder (mmproj) a model gets: the user's, the catalog's, the repository's, or the file beside it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llmstack.catalog.models import quant_of
from llmstack.commands import command_line
from llmstack.detect.model_file import open_model
from llmstack.errors import BadInput, StackError
from llmstack.fetch import hub
from llmstack.fetch.find_local import own_path
from llmstack.fetch.model import ResolvedModel
from llmstack.gguf import printable
from llmstack.paths import Home
from llmstack.plan import Goal, ModelFacts, ProjectorFacts, projector_of_size, read_projector

MOST_FILES = 2000  # of a folder that is looked through
USUAL_BYTES = 950 << 20  # of one whose size nobody says: F16 of the catalog's models, 0.86 to 1.2 GB
_GENERIC = {"", "model", "vision"}


def with_projector(
    home: Home, goal: Goal, files: ResolvedModel, facts: ModelFacts, *, offline: bool = False
) -> tuple[Goal, tuple[str, ...]]:
    """The goal with the image encoder that the plan may take, and a sentence for each file that was passed over.

    One that is not here has the path it would get. Raises BadInput where the user asks for images in vain.
    """
    if goal.mmproj_path:
        path = Path(goal.mmproj_path).expanduser().absolute()
        projector = _read(home, path, facts)
        return replace(goal, mmproj_path=str(path), projector=projector), ()
    passed_over: list[str] = []
    for path in _here(files):
        try:
            return _goal(goal, _read(home, path, facts)), ()
        except StackError as error:
            passed_over.append(error.what + (f": {error.why}" if error.why else ""))
    if files.projector is not None and files.mmproj is None and not (offline or hub.offline()):
        described = _from_afar(home, files, facts)
        if described is not None:
            return _goal(goal, described), tuple(passed_over)
    if goal.vision:
        raise BadInput(
            f"no image encoder is known for {facts.name}",
            why="; ".join(passed_over),
            next=f"{command_line('up', 'MODEL', '--mmproj', 'FILE')}, or leave --vision out",
        )
    return goal, tuple(passed_over)


def _goal(goal: Goal, projector: ProjectorFacts) -> Goal:
    return replace(goal, mmproj_path=projector.path, projector=projector)


def is_here(projector: ProjectorFacts) -> bool:
    return Path(projector.path).is_file()


def _read(home: Home, path: Path, facts: ModelFacts) -> ProjectorFacts:
    """Raises BadInput for a file that is no image encoder, or another model's."""
    shown = printable(path.name)
    projector = read_projector(open_model(path, cache=home.cache, takes="projector").header, path=str(path))
    if not projector.sees:
        raise BadInput(f"{shown} is not used", why="it reads sound, not images")
    if projector.output != facts.n_embd:
        # mtmd_context refuses it: "mismatch between text model and mmproj"
        raise BadInput(
            f"{shown} is another model's image encoder",
            why=f"it hands over {projector.output} values for each token, {facts.name} reads {facts.n_embd}",
            next="its maker publishes the right one beside the model, as mmproj-F16.gguf",
        )
    return projector


def _here(files: ResolvedModel) -> list[Path]:
    """The catalog's file, else those beside the model, the likeliest first."""
    if files.mmproj is not None:
        return [files.mmproj]
    return beside(files.path) if files.path is not None else []


def beside(model: Path) -> list[Path]:
    """Image encoders in a model's folder that are named for it, or for no model: in the order of `hub.precision`."""
    names: list[str] = []
    with suppress(OSError), os.scandir(model.parent) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_FILES:
                break
            if entry.name.lower().endswith(".gguf") and entry.is_file():
                names.append(entry.name)
    own = _stem(model.name)
    models = {_stem(name) for name in names if not hub.is_projector(name)}
    likely = []
    for name in filter(hub.is_projector, names):
        stem = _stem(name)
        named = stem not in _GENERIC and (own.startswith(stem) or stem.startswith(own))
        if named or (stem in _GENERIC and len(models) <= 1) or (len(models) <= 1 and stem not in _GENERIC):
            likely.append((not named, hub.precision(name), name))
    return [model.with_name(name) for *_, name in sorted(likely)]


def _stem(name: str) -> str:
    """A file's name without what says its kind, its precision and its shard."""
    stem = name.lower().removesuffix(".gguf")
    quant = quant_of(name).lower()
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    stem = stem.replace("mmproj", "").replace(quant, "") if quant else stem.replace("mmproj", "")
    stem = re.sub(r"(^|[-_.])(bf16|fp16|f16|f32)(?=$|[-_.])", "", stem)
    return stem.strip("-_. ")


def _from_afar(home: Home, files: ResolvedModel, facts: ModelFacts) -> ProjectorFacts | None:
    """The catalog's by its size, another repository's by its header, read from its server."""
    source = files.projector
    assert source is not None
    path = str(own_path(home, source))
    if files.entry is not None:
        return projector_of_size(source.size or USUAL_BYTES, facts.n_embd, path)
    from llmstack.fetch.remote import header_of

    try:
        projector = read_projector(header_of(source), path=path)
    except StackError:
        return None  # it costs the plan its images, not the plan
    return projector if projector.sees and projector.output == facts.n_embd else None
