"""What `launch` shows: the agents, and how one would be started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmstack.commands import command_line
from llmstack.render.fitted import show_fitted
from llmstack.render.output import show, style

HIDDEN = "(the token)"


def show_agents(document: Mapping[str, Any]) -> None:
    """Those that are here, then those that could be."""
    here = [agent for agent in document["agents"] if agent["installed"]]
    others = [agent for agent in document["agents"] if not agent["installed"]]
    for agent in here:
        show_fitted(f"{agent['name']:<10} {style(agent['title'], 'green')}{_about(agent)}", 11)
    if here and others:
        show("")
    if others:
        show("not installed:")
    for agent in others:
        show_fitted(f"{agent['name']:<10} {agent['title']}{_about(agent)}", 11)
        show(f"           {agent['install']}")
    show("")
    show_fitted(f"{command_line('launch', 'NAME')} starts one on this stack; {command_line('claude')} Claude Code.", 0)


def _about(agent: Mapping[str, Any]) -> str:
    note = f"; {agent['note']}" if agent["note"] else ""
    return f" (tried: {agent['tried']}){note}"


def show_start(
    program: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    files: Mapping[str, str],
    token: str,
) -> None:
    """Without the token."""
    for name, value in variables.items():
        show(f"{name}={value}".replace(token, HIDDEN))
    for name, text in files.items():
        show(f"file {name}: {text}".replace(token, HIDDEN))
    show(" ".join([program, *arguments]))


def show_lasting(document: Mapping[str, Any]) -> None:
    for one in document["written"]:
        show(f"{one['file']}: {'written' if one['changed'] else 'it says so already'}")
    show(f"take it out again: {command_line('launch', document['agent'], '--undo')}")


def show_taken_out(document: Mapping[str, Any]) -> None:
    for one in document["undone"]:
        if one["removed"]:
            show(f"{one['file']} did not exist before: removed")
        elif one["whole"]:
            show(f"{one['file']} is byte for byte what it was")
        else:
            show(f"{one['file']} was changed since: only what llmstack wrote was taken out")
