"""Upstreams on the screen: the list, and what a test found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmstack.commands import command_line
from llmstack.findings import Finding, Level
from llmstack.render.doctor import show_finding
from llmstack.render.output import show


def show_list(rows: Sequence[dict[str, Any]], offline: bool) -> None:
    names = max(len(row["name"]) for row in rows)
    kinds = max(len(row["kind"]) for row in rows)
    for row in rows:
        routes = f"   routes: {', '.join(row['routes'])}" if row["routes"] else ""
        show(
            f"{row['name']:<{names}}  {row['kind']:<{kinds}}  {row['key']:<8} {row['base_url'] or 'this stack'}{routes}"
        )
    if offline:
        show("offline = true: none that is not on this machine is asked")


def show_checks(name: str, checks: Sequence[Finding]) -> None:
    for check in checks:
        show_finding(check)
    if all(check.status is not Level.FAIL for check in checks):
        show(f"{name} can be used: {command_line('claude', '--profile', name)}")
