"""Upstreams on the screen: the list, what a test found, and what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmstack.client.upstream_file import RemovedUpstream
from llmstack.commands import command_line
from llmstack.findings import Finding, Level
from llmstack.render.doctor import show_finding
from llmstack.render.output import show


def show_list(listed: Mapping[str, Any]) -> None:
    """listed: as `upstream list --json` says it."""
    rows: Sequence[Mapping[str, Any]] = listed["upstreams"]
    names = max(len(row["name"]) for row in rows)
    kinds = max(len(row["kind"]) for row in rows)
    for row in rows:
        routes = f"   routes: {', '.join(row['routes'])}" if row["routes"] else ""
        show(
            f"{row['name']:<{names}}  {row['kind']:<{kinds}}  {row['key']:<8} {row['base_url'] or 'this stack'}{routes}"
        )
    if listed["offline"]:
        show("offline = true: none that is not on this machine is asked")


@dataclass(frozen=True, slots=True)
class UpstreamChecks:
    """What `upstream test` found of the upstream of that name."""

    name: str
    findings: Sequence[Finding]
    has_profile: bool = True

    @property
    def ok(self) -> bool:
        return all(finding.status is not Level.FAIL for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"upstream": self.name, "ok": self.ok, "checks": [finding.to_json() for finding in self.findings]}


def show_checks(checks: UpstreamChecks) -> None:
    for finding in checks.findings:
        show_finding(finding)
    if checks.ok and not checks.has_profile:
        model = next((finding.finding.split()[0] for finding in checks.findings if finding.name == "model"), "NAME")
        make = command_line("upstream", "add", checks.name, "--model", model)
        show(f"{checks.name} can be used: {make}   then {command_line('claude', '--profile', checks.name)}")
    elif checks.ok and checks.name == "local":
        show(f"it can be used: {command_line('claude')}")
    elif checks.ok:
        show(f"{checks.name} can be used: {command_line('claude', '--profile', checks.name)}")


def show_offline(written: Mapping[str, Any]) -> None:
    """written: as `upstream offline --json` says it."""
    if written["offline"]:
        show("requests stay on this machine; an upstream elsewhere is answered with 403")
    else:
        show("upstreams elsewhere may be asked")


def show_removed_upstream(removed: RemovedUpstream) -> None:
    show(f"{removed.name} is no more in {removed.file}" if removed.lines else f"nothing of {removed.name} was there")
    for line in removed.lines:
        show(f"  {line}")
    if removed.key_file is not None:
        show(f"its key is deleted: {removed.key_file}")


def show_added(added: Mapping[str, Any]) -> None:
    """added: as `upstream add --json` says it."""
    show(f"{added['upstream']} is in {added['file']}")
    if added["key_file"]:
        show(f"its key is in {added['key_file']}")
    if added["route"]:
        show(
            f"{added['route']} goes there, under {command_line('claude')} too: choose the model with /model, or --model"
        )
    show(f"next: {command_line('upstream', 'test', added['upstream'])}")
