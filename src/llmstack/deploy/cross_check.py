"""A plan beside what the engine's own programs say: the flags of --fit, and the memory that llama-server reports."""

from __future__ import annotations

from pathlib import Path

from llmstack.commands import command_line
from llmstack.detect.dry_run import dry_run, fit_params
from llmstack.engine.find import find
from llmstack.errors import MissingPart
from llmstack.paths import Home
from llmstack.plan import Plan
from llmstack.plan.compare import Checked, FitComparison, check, compare, fit_flags_wanted
from llmstack.plan.search import Search


def compare_with_fit(home: Home, plan: Plan) -> FitComparison:
    """Runs llama-fit-params for the plan's model and context. Raises MissingPart without that program."""
    flags = fit_params(_program(home, "llama-fit-params"), ["-m", plan.facts.path, *fit_flags_wanted(plan)])
    return compare(plan, flags)


def verify(home: Home, plan: Plan) -> tuple[Checked, ...]:
    """Lets llama-server load the model with the plan's flags, without data, and reads what it would take (MiB)."""
    reported = dry_run(_program(home, "llama-server"), plan.argv)
    memory = plan.memory
    if not reported.whole:  # of what guesses ahead for it llama-server reports nothing before it loads
        search = Search(plan.facts, plan.hardware, plan.goal, {})
        memory = search.estimator.estimate_large_model(plan.assignment)
    return check(memory, reported.devices, reported.host)


def _program(home: Home, name: str) -> Path:
    """A program of the engine in use. Raises MissingPart when that is the embedded one."""
    engine = find(home)
    if engine.folder is None or not (engine.folder / name).exists():
        raise MissingPart(
            f"this needs {name}, and the engine in use ({engine.name}) has none", next=command_line("engine", "install")
        )
    return engine.folder / name
