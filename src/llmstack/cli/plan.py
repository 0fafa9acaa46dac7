"""`llmstack plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmstack.cli.goal import goal_options
from llmstack.cli.options import json_option
from llmstack.commands import command_line
from llmstack.errors import BadInput

if TYPE_CHECKING:
    from llmstack.hardware import Hardware
    from llmstack.paths import Home
    from llmstack.plan import Goal, Plan
    from llmstack.plan.compare import Checked, Comparison
    from llmstack.units import UnitDiff

_UNITS = {"": 1.0, "m": 1.0, "mb": 1e6 / 2**20, "mib": 1.0, "g": 1024.0, "gb": 1e9 / 2**20, "gib": 1024.0}


@click.command(
    help="""Say what fits, how fast it will be, and why, before anything is downloaded or started.

    MODEL is a catalog name, hf:OWNER/REPO/FILE, or a path to a GGUF (the first shard of a split one). Without MODEL the
    catalog is ranked for this machine. Exit status 1 when nothing fits."""
)
@click.argument("model", required=False)
@click.option("--hardware", "file", type=click.Path(dir_okay=False, path_type=Path), help="Plan for another machine.")
@click.option("--vram", metavar="SIZE", help="As if the GPU had this much memory, such as 12GiB.")
@click.option("--ram", metavar="SIZE", help="As if the machine had this much RAM, such as 32GiB.")
@click.option("--explain", "flag", metavar="FLAG", help="The long answer about one flag.")
@click.option("--compare", "wants_fit", is_flag=True, help="Compare with what llama.cpp's own --fit chooses.")
@click.option("--verify", "wants_check", is_flag=True, help="Compare with what your own llama-server reports.")
@goal_options
@json_option
def command(
    model: str | None,
    file: Path | None,
    vram: str | None,
    ram: str | None,
    flag: str | None,
    wants_fit: bool,
    wants_check: bool,
    as_json: bool,
    **options: Any,
) -> int:
    from llmstack.cli.goal import make_goal
    from llmstack.paths import home
    from llmstack.plan.result import Infeasible
    from llmstack.render.output import show_json, warn
    from llmstack.render.plan import show_refusal

    place = home()
    supposed = file is not None or vram is not None or ram is not None
    hardware, warnings = _hardware(file, vram, ram)
    for sentence in warnings:
        warn(sentence)
    if model is None:
        if flag or wants_fit or wants_check:
            raise BadInput("which model?", next=command_line("plan", "MODEL", "--explain", "FLAG"))
        return _rank(place, hardware, as_json)
    try:
        plan = _plan(place, model, hardware, make_goal(**options))
    except Infeasible as error:
        if as_json:
            show_json(error.to_json())
        else:
            show_refusal(error)
        return 1
    if flag is not None:
        return _explain(plan, flag, as_json)
    fit = _compare(place, plan) if wants_fit else None
    checked = _verify(place, plan) if wants_check else ()
    units = None if supposed else _units(place, plan)
    _show(plan, fit, checked, units, as_json)
    return 0 if all(row.ok for row in checked) else 1


def _hardware(file: Path | None, vram: str | None, ram: str | None) -> tuple[Hardware, tuple[str, ...]]:
    from dataclasses import replace

    from llmstack.hardware import Device, from_json

    if file is not None:
        try:
            hardware, warnings = from_json(file.read_bytes()), tuple[str, ...]()
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    else:
        hardware, warnings = _this_machine()
        hardware = _measured(hardware)
    if vram is not None:
        mib = _size(vram)
        card = hardware.devices[0] if hardware.devices else Device("supposed GPU", "CUDA", mib, mib)
        devices = (replace(card, total_mib=mib, free_mib=mib),) if mib else ()
        hardware, warnings = replace(hardware, devices=devices), ()
    if ram is not None:
        mib = _size(ram)
        memory = replace(hardware.ram, total_mib=mib, available_mib=mib * 9 // 10, limit_mib=None)
        hardware = replace(hardware, ram=memory)
    return hardware, warnings


def _this_machine() -> tuple[Hardware, tuple[str, ...]]:
    """All cards that are here, also those that need another engine than the one in use: the warning says which."""
    from llmstack.deploy.prepare import for_engine, with_engine_devices
    from llmstack.detect.hardware import detect
    from llmstack.engine.find import find
    from llmstack.errors import MissingPart
    from llmstack.paths import home

    found = detect()
    try:
        engine = find(home())
    except MissingPart as error:
        return found.hardware, (*found.warnings, error.what)
    return with_engine_devices(found, engine).hardware, for_engine(found, engine).warnings


def _measured(hardware: Hardware) -> Hardware:
    """What was measured on this machine before, with the engine in use; nothing is measured here."""
    from llmstack.detect import calibration
    from llmstack.engine.find import find
    from llmstack.errors import StackError
    from llmstack.paths import home

    known = calibration.read(home(), hardware)
    if known is None:
        return hardware
    try:
        return calibration.apply(known, hardware, find(home()).name)
    except StackError:
        return calibration.apply(known, hardware, "")


def _size(text: str) -> int:
    """MiB of `12GiB`, `12g` or `12288`; BadInput for anything else."""
    number = text.strip().lower().rstrip("bgimkt")
    factor = _UNITS.get(text.strip().lower()[len(number) :].strip())
    try:
        value = float(number) * factor if factor else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value < 1 << 30:
        raise BadInput(f"{text} is no amount of memory", next="for example: --vram 12GiB --ram 32GiB")
    return int(value)


def _plan(place: Home, name: str, hardware: Hardware, goal: Goal) -> Plan:
    """The same path as `up`, from a file when it is here and from the catalog's dimensions when it is not."""
    from dataclasses import replace

    from llmstack.deploy.model_goal import with_drafter, with_entry
    from llmstack.fetch.locate import locate
    from llmstack.plan import make_plan, read_facts

    found = locate(place, name)
    goal = with_drafter(place, with_entry(replace(goal, alias=found.name), found.entry), found.entry)
    if found.path is not None:
        from llmstack.detect.model_file import open_model

        model = open_model(found.path, cache=place.cache)
        return make_plan(read_facts(model.header, path=str(model.path)), hardware, goal)
    if found.entry is None or not found.entry.arch:
        from llmstack.fetch.remote import remote_header

        found, header = remote_header(found)
        return make_plan(read_facts(header, path=f"{found.name}.gguf"), hardware, replace(goal, alias=found.name))
    from llmstack.catalog.shape import describe

    quant = found.quant
    if ":" not in name:
        from llmstack.fetch.survey import best

        quant = best(found.name, found.entry, hardware, place.cache).quant
    facts = read_facts(describe(found.name, found.entry, quant), path=f"{found.name}-{quant}.gguf")
    return make_plan(facts, hardware, goal)


def _rank(place: Home, hardware: Hardware, as_json: bool) -> int:
    import msgspec

    from llmstack.fetch.locate import read_catalog
    from llmstack.fetch.survey import survey
    from llmstack.render.output import StepProgress, show_json
    from llmstack.render.plan import machine, show_ranking

    rows = []
    with StepProgress() as progress:
        for row in survey(read_catalog(place), hardware, place.cache):
            progress(f"planned {row.name}")
            rows.append(row)
    rows.sort(key=lambda row: (not row.fits, -row.decode_tps))
    if as_json:
        show_json({"hardware": hardware.to_json(), "models": [msgspec.to_builtins(row) for row in rows]})
    else:
        show_ranking(rows, machine(hardware))
    return 0 if any(row.fits for row in rows) else 1


def _explain(plan: Plan, flag: str, as_json: bool) -> int:
    from llmstack.plan.explain import explain
    from llmstack.render.output import show_json
    from llmstack.render.plan import show_explanation

    found = explain(plan, flag)
    if as_json:
        import msgspec

        show_json(msgspec.to_builtins(found))
    else:
        show_explanation(found)
    return 0


def _binary(place: Home, name: str) -> Path:
    """A program of the engine in use. Raises MissingPart when that is the embedded one."""
    from llmstack.engine.find import find
    from llmstack.errors import MissingPart

    engine = find(place)
    if engine.folder is None or not (engine.folder / name).exists():
        raise MissingPart(
            f"this needs {name}, and the engine in use ({engine.name}) has none", next=command_line("engine", "install")
        )
    return engine.folder / name


def _compare(place: Home, plan: Plan) -> Comparison:
    from llmstack.detect.dry_run import fit_params
    from llmstack.plan.compare import compare, fit_flags_wanted

    flags = fit_params(_binary(place, "llama-fit-params"), ["-m", plan.facts.path, *fit_flags_wanted(plan)])
    return compare(plan, flags)


def _verify(place: Home, plan: Plan) -> tuple[Checked, ...]:
    from llmstack.detect.dry_run import dry_run
    from llmstack.plan import argv
    from llmstack.plan.compare import check

    reported = dry_run(_binary(place, "llama-server"), argv(plan))
    return check(plan.memory, reported.devices, reported.host)


def _units(place: Home, plan: Plan) -> UnitDiff | None:
    """What `up` would change in the services; None where it cannot be said (no engine yet, a foreign unit)."""
    from llmstack.deploy import record
    from llmstack.deploy.prepare import PROXY_PORT, SERVER_PORT
    from llmstack.deploy.services import proxy_service, ram_limit, server_service
    from llmstack.deploy.supervisors import preview, supervisor_for
    from llmstack.engine.find import find
    from llmstack.errors import StackError
    from llmstack.plan import argv, to_json

    deployed = record.read(place)
    server, proxy = (deployed.server.port, deployed.proxy.port) if deployed else (SERVER_PORT, PROXY_PORT)
    try:
        services = (
            server_service(place, find(place), argv(plan), "127.0.0.1", server, ram_limit(to_json(plan))),
            proxy_service(deployed.proxy.host if deployed else "127.0.0.1", proxy),
        )
        return preview(supervisor_for(place), services)
    except StackError:
        return None


def _show(
    plan: Plan, fit: Comparison | None, checked: tuple[Checked, ...], units: UnitDiff | None, as_json: bool
) -> None:
    import msgspec

    from llmstack.plan import to_json
    from llmstack.render.output import show_json
    from llmstack.render.plan import show_check, show_comparison, show_plan, show_units

    if as_json:
        result = to_json(plan)
        if units is not None:
            result["units"] = msgspec.to_builtins(units.changes)
        if fit is not None:
            result["fit"] = msgspec.to_builtins(fit)
        if checked:
            result["verified"] = msgspec.to_builtins(checked)
        show_json(result)
        return
    show_plan(plan)
    if units is not None:
        show_units(units)
    if fit is not None:
        show_comparison(fit)
    if checked:
        show_check(checked)
