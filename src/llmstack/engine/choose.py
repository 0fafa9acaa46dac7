"""Switching between engines, and back."""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.engine.find import Engine, EngineChoice, find, named, read_choice, usable
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home, write_private

_MOST_PREVIOUS = 8


def use(home: Home, name: str) -> Engine:
    """Makes an engine the one in use, after checking that it may be. The one before is kept for `rollback`."""
    engine = named(home, name)
    if engine is None:
        raise BadInput(
            f"there is no engine named {name}",
            why=f"the folder {name} holds no llama-server" if Path(name).expanduser().is_dir() else "",
            next=f"{command_line('engine', 'list')}   shows what is here",
        )
    usable(engine)
    choice = read_choice(home)
    before = choice.use or _current(home)
    if before == engine.name:
        _write(home, EngineChoice(engine.name, choice.previous))
    else:
        _write(
            home, EngineChoice(engine.name, (*choice.previous, before)[-_MOST_PREVIOUS:] if before else choice.previous)
        )
    return engine


def previous(home: Home) -> tuple[Engine, tuple[str, ...]]:
    """The engine that was in use before, and the names before it. Raises NotSo when there is none that runs."""
    remaining = list(read_choice(home).previous)
    while remaining:
        engine = named(home, remaining.pop())
        if engine is not None and not engine.refused:
            return engine, tuple(remaining)
    raise NotSo(
        "there is no earlier engine to go back to", next=f"{command_line('engine', 'list')}   shows what is here"
    )


def rollback(home: Home) -> Engine:
    """Takes the engine before this one into use again. Raises NotSo when there is none, or none that runs."""
    engine, remaining = previous(home)
    _write(home, EngineChoice(engine.name, remaining))
    return engine


def _current(home: Home) -> str:
    from llmstack.errors import MissingPart

    try:
        return find(home).name
    except MissingPart:
        return ""


def _write(home: Home, choice: EngineChoice) -> None:
    write_private(home.state / "engine.json", msgspec.json.encode(choice))
