"""Which models of the catalog run on a machine, how fast, and in which size: plans without any download.

A plan takes a tenth of a second to a few seconds; results are kept in the cache folder under everything they
depend on, so a second look at the same machine is instant.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from llmstack import __version__
from llmstack.catalog.models import Catalog, Model
from llmstack.catalog.shape import describe, describe_drafter
from llmstack.errors import BadInput
from llmstack.fetch.find_local import locate_size
from llmstack.fetch.model import ResolvedModel
from llmstack.fetch.model_ref import ReferenceKind
from llmstack.fetch.model_ref import parse as parse_reference
from llmstack.gguf import GgufHeader
from llmstack.hardware import Hardware
from llmstack.paths import Home, write_cached
from llmstack.plan import Goal, Infeasible, ModelFacts, make_plan, read_facts
from llmstack.plan.client_room import too_small

UNREAD = "the catalog has no dimensions of it, and its header was not read yet"

ENOUGH_TPS = 10.0
"""Decode speed (tokens/s) from which a size counts as usable: slower than this, a smaller one is proposed."""


COMFORTABLE_TPS = 20.0
"""Decode speed (tokens/s) that is comfortable to work with: faster than one reads."""


PATIENCE_S = 300.0
"""How long a first answer may take to begin (s): Claude Code itself, unless told otherwise, gives up after that."""


Known = Callable[[str, Model, str], GgufHeader | None]
"""The header of an entry's size, where it can be had without the network."""


class SurveyRow(msgspec.Struct, frozen=True):
    """One model and size on one machine. context in tokens, speeds in tokens/s, 0 where it does not fit.

    planned: False where nothing is known yet that a plan could be made of: neither dimensions nor a header.
    """

    name: str
    quant: str
    fits: bool
    size_bytes: int
    context: int = 0
    decode_tps: float = 0.0
    prefill_tps: float = 0.0
    ttft_cold_s: float = 0.0
    reason: str = ""
    planned: bool = True
    superseded_by: str = ""


def nothing_known(name: str, model: Model, quant: str) -> GgufHeader | None:
    """No header was ever seen."""
    return None


def survey(
    catalog: Catalog,
    hardware: Hardware,
    cache: Path | None = None,
    *,
    every: bool = False,
    known: Known = nothing_known,
) -> Iterator[SurveyRow]:
    """One row per model, in its best size; with `every`, one per size."""
    for name, model in catalog.models.items():
        if model.handoff or not model.sizes():
            continue
        if every:
            steady = coarse(hardware)
            yield from (look(name, model, quant, steady, cache, known) for quant in model.sizes())
        else:
            yield best(name, model, hardware, cache, known)


def best(
    name: str, model: Model, hardware: Hardware, cache: Path | None = None, known: Known = nothing_known
) -> SurveyRow:
    """The recommended size where it is fast enough (ENOUGH_TPS), else the next that is, else the fastest of all
    (the smallest, where none fits); the recommended one where none can be planned."""
    steady, rows = coarse(hardware), []
    for quant in model.sizes():
        rows.append(look(name, model, quant, steady, cache, known))
        if rows[-1].decode_tps >= ENOUGH_TPS:
            return rows[-1]
    planned = [row for row in rows if row.planned]
    return max(planned, key=lambda row: (row.decode_tps, -row.size_bytes)) if planned else rows[0]


def suited(
    home: Home, what: str, model: ResolvedModel, hardware: Hardware, known: Known = nothing_known
) -> ResolvedModel:
    """A catalog model that is not here and was named without a size, in the size that suits a machine; else itself."""
    if model.path is not None or model.entry is None or not model.sources:
        return model
    if parse_reference(what).kind is not ReferenceKind.NAME or ":" in what:
        return model
    row = best(model.name, model.entry, hardware, home.cache, known)
    return locate_size(home, model.name, model.entry, row.quant)


def recommended(rows: Iterable[SurveyRow], models: Mapping[str, Model]) -> str:
    """The best-ranked model that answers at reading speed (COMFORTABLE_TPS), else the fastest; empty for none.

    One whose first answer begins after PATIENCE_S is never one; one whose context is too short for a coding agent, or
    that is superseded, only where no other is left."""
    fitting = [row for row in rows if row.fits and row.ttft_cold_s <= PATIENCE_S]
    fitting = [row for row in fitting if not too_small(row.context)] or fitting
    quick = [row for row in fitting if row.decode_tps >= COMFORTABLE_TPS]
    if quick:
        return min(quick, key=lambda row: models[row.name].order).name
    fitting = [row for row in fitting if not models[row.name].superseded_by] or fitting
    return max(fitting, key=lambda row: row.decode_tps).name if fitting else ""


def look(
    name: str,
    model: Model,
    quant: str,
    hardware: Hardware,
    cache: Path | None = None,
    known: Known = nothing_known,
) -> SurveyRow:
    """Plans one size on one machine: by its header where that is known, else by the catalog's dimensions."""
    header = known(name, model, quant)
    if header is None and not model.shape:
        size = model.sizes()[quant].bytes
        return SurveyRow(name, quant, False, size, reason=UNREAD, planned=False, superseded_by=model.superseded_by)
    seen = header.digest if header is not None else ""
    parts = [__version__, name, quant, msgspec.to_builtins(model), msgspec.to_builtins(hardware), seen]
    key = hashlib.sha256(msgspec.json.encode(parts) + planner_digest()).hexdigest()[:32]
    entry = cache / "survey" / f"{key}.json" if cache else None
    if entry is not None:
        try:
            return msgspec.json.decode(entry.read_bytes(), type=SurveyRow)
        except (OSError, msgspec.DecodeError):
            pass
    row = _plan(name, model, quant, hardware, header)
    if entry is not None:
        write_cached(entry, msgspec.json.encode(row))
    return row


def _plan(name: str, model: Model, quant: str, hardware: Hardware, header: GgufHeader | None) -> SurveyRow:
    newer = model.superseded_by
    try:
        header = header or describe(name, model, quant)
        facts = read_facts(header, path=f"{name}.gguf")
    except BadInput as error:
        return SurveyRow(name, quant, False, 0, reason=error.what, superseded_by=newer)
    try:
        plan = make_plan(facts, hardware, Goal(draft=drafter_facts(model)))
    except Infeasible as error:
        return SurveyRow(name, quant, False, header.file_bytes, reason=error.reason, superseded_by=newer)
    predicted = plan.predicted
    return SurveyRow(
        name,
        quant,
        True,
        header.file_bytes,
        context=plan.assignment.ctx,
        decode_tps=round(predicted.decode_tps, 1),
        prefill_tps=round(predicted.prefill_tps, 1),
        ttft_cold_s=round(predicted.ttft_cold_s, 1),
        superseded_by=newer,
    )


def drafter_facts(model: Model) -> ModelFacts | None:
    """The smaller sibling as the catalog describes it; None where it only names one."""
    if model.drafter is None or not model.drafter.arch:
        return None
    return read_facts(describe_drafter(model.drafter), path=model.drafter.file.rpartition("/")[2])


def coarse(hardware: Hardware) -> Hardware:
    """Free memory in coarse steps, downwards: it moves a little all the time, and a list need not."""
    devices = tuple(replace(device, free_mib=device.free_mib // 256 * 256) for device in hardware.devices)
    ram = replace(hardware.ram, available_mib=hardware.ram.available_mib // 1024 * 1024)
    return replace(hardware, ram=ram, devices=devices)


@functools.cache
def planner_digest() -> bytes:
    """Changes whenever the planner's code does."""
    import llmstack.plan

    files = sorted(Path(llmstack.plan.__file__).parent.glob("*.py"))
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]).encode()
