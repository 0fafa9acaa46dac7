"""Going from one model to another on a card: what our own server holds is given back, as if the card were idle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.card_engine import CardEngine
from support.models import write_model
from support.stack import Stack

pytestmark = pytest.mark.timeout(900)
SMALL = ("--ctx", "2048")  # the card is a processor in truth


@pytest.fixture
def stack(built_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    engine = CardEngine.made_of(built_engine, tmp_path / "engine")
    monkeypatch.setenv("PYTHONPATH", engine.driver)
    stack = Stack.in_folder(tmp_path / "home").with_model(write_model("dense", tmp_path / "dense.gguf"))
    try:
        stack.do("engine", "use", engine.binary)
        yield stack
    finally:
        stack.end()


def planned(stack: Stack) -> Any:
    """What `plan` says of it, less what changes with the measured seconds of the machine."""
    plan = stack.run("plan", str(stack.model), *SMALL, "--json").json
    return plan["argv"], [(use["name"], use["budget_mib"]) for use in plan["memory"]["devices"]]


def deployed(stack: Stack) -> list[str]:
    argv: list[str] = json.loads((stack.root / "state" / "stack.json").read_text())["plan"]["argv"]
    return argv


def test_each_up_leaves_the_plan_of_an_idle_card(stack: Stack, tmp_path: Path) -> None:
    other = replace(stack, model=write_model("window", tmp_path / "window.gguf"))
    idle = {name: planned(one) for name, one in (("first", stack), ("other", other))}
    for name, one in (("first", stack), ("other", other), ("first", stack)):
        assert planned(one) == idle[name]  # whatever runs meanwhile
        one.up(*SMALL)
        argv, budgets = idle[name]
        assert deployed(one) == argv
        assert "-dev" in argv and argv[argv.index("-ngl") + 1] != "0"
        assert planned(one) == (argv, budgets)
