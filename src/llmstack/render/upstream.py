"""Upstreams on the screen: the list, and what a test found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmstack.client.upstream_check import Check, Grade
from llmstack.render.output import show, style

_COLOURS = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red"}


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


def show_checks(name: str, checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        show(f"{style(f'{check.status.value:<4}', _COLOURS[check.status])}  {check.name:<{width}}  {check.finding}")
        if check.remedy and check.status is not Grade.OK:
            show(f"      {'':<{width}}  next: {check.remedy}")
    if all(check.status is not Grade.FAIL for check in checks):
        show(f"{name} can be used: llmstack claude --profile {name}")
