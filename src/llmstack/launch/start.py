"""Finds an agent, makes what it needs, and becomes it."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.client.environment import ClientEnvironment, no_proxy
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart
from llmstack.launch.agents import AGENTS, Agent, Pointed, PointFacts
from llmstack.launch.lasting import LASTING, LastingFile, TokenSource
from llmstack.paths import Home, chosen_root, own_command, write_private

_CLAUDE = ("claude", "claude-code")
# Of other clients and other gateways: they would win over what leads here.
_REMOVED = ("ANTHROPIC_AUTH_TOKEN", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")


def agent_of(name: str) -> Agent:
    """Raises BadInput for one that is not known."""
    if name in _CLAUDE:
        raise BadInput("Claude Code has a command of its own", next=command_line("claude"))
    if name not in AGENTS:
        near = difflib.get_close_matches(name, AGENTS, 1)
        raise BadInput(
            f"there is no way to start {name} here yet",
            why=f"known: {', '.join(AGENTS)}",
            next=command_line("launch", near[0]) if near else command_line("launch"),
        )
    return AGENTS[name]


def find_program(agent: Agent) -> str:
    """Raises MissingPart with how to install it."""
    program = shutil.which(agent.program)
    if program is None:
        raise MissingPart(f"{agent.title} is not installed: there is no `{agent.program}` on PATH", next=agent.install)
    return program


def facts_of(home: Home, name: str, environment: ClientEnvironment) -> PointFacts:
    """Of what Claude Code would be given: one way to know the stack for all. Raises BadInput for a profile that leads
    elsewhere."""
    given = environment.variables
    url, model = given.get("ANTHROPIC_BASE_URL"), given.get("ANTHROPIC_MODEL")
    if not url or not model or "ANTHROPIC_AUTH_TOKEN" not in given:
        raise BadInput("this profile does not lead to the stack's proxy, and other agents know no other way")
    context, output = given.get("CLAUDE_CODE_MAX_CONTEXT_TOKENS"), given.get("CLAUDE_CODE_MAX_OUTPUT_TOKENS")
    return PointFacts(
        url,
        given["ANTHROPIC_AUTH_TOKEN"],
        model,
        int(context) if context else None,
        int(output) if output else None,
        home.state / "launch" / name,
    )


def lasting_files(home: Home, name: str, facts: PointFacts, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    """What `--write` writes. Raises BadInput for an agent that needs no lasting setting, or has no place for one."""
    if name not in LASTING:
        raise BadInput(
            f"nothing is written for {name}: {AGENTS[name].title} is started here by {command_line('launch', name)}",
            why=f"lasting settings are known for {', '.join(LASTING)}",
            next=command_line("launch", name),
        )
    root = chosen_root()
    prefix = ("env", f"LLMSTACK_HOME={root}") if root else ()
    token = TokenSource(home.token, (*prefix, *own_command(), "token"))
    return LASTING[name](facts, token, inherited)


def environment_for(pointed: Pointed, inherited: Mapping[str, str]) -> dict[str, str]:
    """A process's whole environment."""
    rest = {name: value for name, value in inherited.items() if name not in _REMOVED}
    return rest | no_proxy(inherited) | dict(pointed.variables)


def become(program: str, agent: Agent, facts: PointFacts, arguments: Sequence[str]) -> None:
    """Replaces this process, so that the agent's exit status and signals are its own."""
    pointed = agent.point(facts)
    for name, text in pointed.files.items():
        write_private(facts.folder / name, text.encode())
    os.execve(program, [agent.program, *pointed.arguments, *arguments], environment_for(pointed, os.environ))


@dataclass(frozen=True, slots=True)
class Known:
    """An agent as the list shows it. path: of its program, None where it is not installed."""

    name: str
    agent: Agent
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        agent = self.agent
        return {
            "name": self.name,
            "title": agent.title,
            "installed": str(self.path) if self.path is not None else None,
            "install": agent.install,
            "speaks": agent.speaks,
            "tried": agent.version,
            "note": agent.note or None,
        }


def known() -> list[Known]:
    programs = {name: shutil.which(agent.program) for name, agent in AGENTS.items()}
    return [Known(name, AGENTS[name], Path(program) if program else None) for name, program in programs.items()]
