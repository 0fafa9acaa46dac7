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
from llmstack.render.output import overwrite, show, style


@dataclass(frozen=True, slots=True)
class EngineList:
    """in_use: the name of the one in use, empty when there is none."""

    engines: Sequence[Engine]
    in_use: str

    def to_json(self) -> dict[str, Any]:
        return {"engines": [_engine_json(engine, self.in_use) for engine in self.engines]}


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
            "log": str(self.build.log),
        }


@dataclass(frozen=True, slots=True)
class UsedEngine:
    """The engine that is in use from now on."""

    engine: Engine

    def to_json(self) -> dict[str, Any]:
        return {"engine": _engine_json(self.engine, self.engine.name)}


def show_engines(listed: EngineList) -> None:
    engines, in_use = listed.engines, listed.in_use
    if not engines:
        show("no engine is here")
        show(f"next: {command_line('engine', 'install', '--cpu')}   (or --cuda, --vulkan)")
        return
    width = max(len(engine.name) for engine in engines)
    for engine in engines:
        mark = style("→", "green") if engine.name == in_use else " "
        build = f"build {engine.build}" if engine.build else engine.version or "?"
        show(f"{mark} {engine.name:<{width}}  {engine.origin.value:<10}  {build:<12}  {', '.join(engine.backends)}")
        if engine.refused:
            show(f"    {style('not usable:', 'red')} {engine.refused}")
        for device in engine.devices:
            show(f"    {device.id}: {device.name}  {device.free_mib:,} of {device.total_mib:,} MiB free")


def show_installed(done: InstalledEngine) -> None:
    installed, engine = done.build, done.build.engine
    if installed.already:
        show(f"{style(engine.name, 'cyan')} is already built, and in use")
        return
    minutes, seconds = divmod(int(installed.seconds), 60)
    show(f"{style(engine.name, 'cyan')} built in {minutes}:{seconds:02}, tested, and in use")
    show(f"  build {engine.build}, backends {', '.join(engine.backends)}, in {engine.folder}")
    show(f"  log: {installed.log}")


def show_used(used: UsedEngine) -> None:
    show(f"in use: {style(used.engine.name, 'cyan')}")
    show(f"a running stack keeps its engine until: {command_line('restart')}")


def _engine_json(engine: Engine, in_use: str) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": engine.kind.value,
        "origin": engine.origin.value,
        "in_use": engine.name == in_use,
        "build": engine.build,
        "version": engine.version,
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
        self._terminal = sys.stderr.isatty()
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
            text = f"[{minutes}:{seconds:02}] {step.stage}  {bar} {step.done} of {step.total} files"
        if self._terminal:
            overwrite(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
