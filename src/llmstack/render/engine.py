"""Engines and their builds on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmstack.commands import command_line
from llmstack.engine.find import Engine
from llmstack.engine.install import BuildStep, Installed
from llmstack.render.output import has_cursor, overwrite, show, style


@dataclass(frozen=True, slots=True)
class EngineList:
    """in_use: the name of the one in use, empty when there is none. newest: the tag of llama.cpp's stable release,
    empty where nobody asked; is_newer: than every build here."""

    engines: Sequence[Engine]
    in_use: str
    newest: str = ""
    is_newer: bool = False

    def to_json(self) -> dict[str, Any]:
        engines = {"engines": [_engine_json(engine, self.in_use) for engine in self.engines]}
        return engines | ({"newest": self.newest, "is_newer": self.is_newer} if self.newest else {})


@dataclass(frozen=True, slots=True)
class InstalledEngine:
    """A build that has ended. in_use: the name of the engine in use now."""

    build: Installed
    in_use: str

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": _engine_json(self.build.engine, self.in_use),
            "already": self.build.already,
            "seconds": round(self.build.seconds, 1),
            "log": str(self.build.log) if self.build.log is not None else None,
            "note": self.build.note,
        }


@dataclass(frozen=True, slots=True)
class UsedEngine:
    """The engine that is in use from now on. runs: the stack was moved to it."""

    engine: Engine
    runs: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"engine": _engine_json(self.engine, self.engine.name), "stack_moved": self.runs}


def show_engines(listed: EngineList) -> None:
    engines, in_use = listed.engines, listed.in_use
    if not engines:
        show("no engine is here")
        show(f"next: {command_line('engine', 'install')}")
    width = max((len(engine.name) for engine in engines), default=0)
    for engine in engines:
        mark = style("→", "green") if engine.name == in_use else " "
        build = f"build {engine.build}" if engine.build else f"{engine.fork} {engine.version}".strip() or "?"
        show(f"{mark} {engine.name:<{width}}  {engine.origin.value:<10}  {build:<12}  {', '.join(engine.backends)}")
        if engine.refused:
            show(f"    {style('not usable:', 'red')} {engine.refused}")
        if engine.fork:
            show("    a fork of llama.cpp, judged by its flags: which known holes it has cannot be told")
        for device in engine.devices:
            show(f"    {device.id}: {device.name}  {device.free_mib:,} of {device.total_mib:,} MiB free")
    if listed.newest:
        show(
            f"llama.cpp's stable release is {listed.newest}" + ("" if listed.is_newer else ": nothing newer than here")
        )
    if listed.is_newer:
        way = ("engine", "upgrade") if in_use else ("engine", "install")
        show(f"next: {command_line(*way)}")


def show_installed(done: InstalledEngine) -> None:
    installed, engine = done.build, done.build.engine
    used = "in use" if done.in_use == engine.name else f"not in use: {done.in_use or 'no engine'} is"
    if installed.already:
        show(f"{style(engine.name, 'cyan')} is already here, and {used}")
        return
    minutes, seconds = divmod(int(installed.seconds), 60)
    made = "built" if installed.log is not None else "installed"
    show(f"{style(engine.name, 'cyan')} {made} in {minutes}:{seconds:02}, tested, and {used}")
    show(f"  build {engine.build}, backends {', '.join(engine.backends)}, in {engine.folder}")
    if installed.note:
        show(f"  {style('note:', 'yellow')} {installed.note}")
    if installed.log is not None:
        show(f"  log: {installed.log}")


def show_used(used: UsedEngine) -> None:
    show(f"in use: {style(used.engine.name, 'cyan')}")
    if used.runs:
        show("the stack runs on it")
    else:
        show(f"a running stack keeps its engine until: {command_line('up')}")


def _engine_json(engine: Engine, in_use: str) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": engine.kind.value,
        "origin": engine.origin.value,
        "in_use": engine.name == in_use,
        "build": engine.build,
        "version": engine.version,
        "fork": engine.fork,
        "backends": list(engine.backends),
        "devices": [
            {
                "name": f"{device.id}: {device.name}",
                "id": device.id,
                "backend": device.backend,
                "total_mib": device.total_mib,
                "free_mib": device.free_mib,
            }
            for device in engine.devices
        ],
        "usable": not engine.refused,
        "refused": engine.refused,
        "command": list(engine.command),
        "folder": str(engine.folder) if engine.folder else None,
    }


class BuildProgress:
    """One line that is overwritten on a terminal; a line per stage and per tenth elsewhere. On stderr."""

    def __init__(self) -> None:
        self._terminal = has_cursor(sys.stderr)
        self._began = time.monotonic()
        self._stage = ""
        self._tenth = -1

    def __call__(self, step: BuildStep) -> None:
        tenth = step.done * 10 // step.total if step.total else -1
        if not self._terminal and (step.stage, tenth) == (self._stage, self._tenth):
            return
        self._stage, self._tenth = step.stage, tenth
        passed = time.monotonic() - self._began
        minutes, seconds = divmod(int(passed), 60)
        text = f"[{minutes}:{seconds:02}] {step.stage}"
        if step.total:
            share = step.done / step.total
            bar = ("━" * round(share * 20)).ljust(20, "─")
            text = f"[{minutes}:{seconds:02}] {step.stage}  {bar} {step.done} of {step.total} {step.unit}"
        if self._terminal:
            overwrite(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
