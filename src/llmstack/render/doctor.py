"""`doctor` on the terminal: one line per finding, then its cause and the command that helps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.doctor.facts import DoctorReport
from llmstack.findings import Finding, Level
from llmstack.render.fitted import BELOW, two_columns, wrapped
from llmstack.render.output import show, style

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_NAME = 24  # the column behind level and name


@dataclass(frozen=True, slots=True)
class Examined:
    """What `doctor` says. bundle: the file it wrote for a bug report; names: of what is in it."""

    report: DoctorReport
    bundle: Path | None = None
    names: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return self.report.to_json() | ({"bundle": str(self.bundle)} if self.bundle else {})


def show_examined(examined: Examined, *, show_all: bool) -> None:
    show_report(examined.report, show_all=show_all)
    if examined.bundle is not None:
        show_bundle(examined.bundle, examined.names)


def show_report(report: DoctorReport, *, show_all: bool) -> None:
    """Warnings and failures in full; what passed as one line each, or counted."""
    for finding in report.findings:
        if show_all or finding.status is not Level.OK or finding.name in ("engine", "gpu", "stack"):
            show_finding(finding)
    passed = sum(finding.status is Level.OK for finding in report.findings)
    warned = sum(finding.status is Level.WARN for finding in report.findings)
    failed = sum(finding.status is Level.FAIL for finding in report.findings)
    verdict = style("healthy", "green") if report.ok else style("not healthy", "red")
    more = "" if show_all else "   (--all shows what passed)"
    show(f"{verdict}: {passed} passed, {warned} warned, {failed} failed{more}")


def show_bundle(path: Path, names: tuple[str, ...]) -> None:
    show(f"wrote {path}: {', '.join(names)}")
    show("Secrets, your home folder and this machine's name were taken out; look through it before you share it.")


def show_finding(finding: Finding) -> None:
    level, columns = finding.status.value, shutil.get_terminal_size().columns
    first, *more = two_columns(f"{level:<4} {finding.name}", finding.finding, _NAME, columns)
    show(first.replace(level, style(level, _COLOURS[finding.status]), 1))
    for line in more:
        show(line)
    if finding.status is Level.OK:
        return
    indent = " " * (_NAME if first[_NAME:].strip() else BELOW)
    for line in wrapped(finding.cause, max(columns - len(indent) - 2, 20)) if finding.cause else []:
        show(f"{indent}{line}")
    if finding.remedy:
        show(f"{indent}{style('next:', 'cyan')} {finding.remedy}")
