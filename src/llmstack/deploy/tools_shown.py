"""Whether the deployed model is shown tools: asked of the running server, written into the record, said to the user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from llmstack.engine import tool_sight
from llmstack.engine.tool_sight import ToolSight
from llmstack.errors import NotSo
from llmstack.gguf import GgufHeader
from llmstack.gguf.reader import MAX_TEXT
from llmstack.paths import Home
from llmstack.plan import Plan

if TYPE_CHECKING:
    from llmstack.stackfile import StackRecord

TOOLS, RESULTS = "tools", "tool_results"  # what the record's capabilities call them


def look(home: Home, stack: StackRecord) -> tuple[StackRecord, tuple[str, ...]]:
    """The record with what the server's prompts show of a tool, and a warning where that is not all of it."""
    from llmstack.engine.control import EngineClient  # a plan asks no server

    with EngineClient(stack.server.url, home.server_key, timeout_s=60.0) as client:
        sight = tool_sight.of_server(client)
    if sight is None:
        return stack, ()
    seen = stack.capabilities | {TOOLS: sight.tools, RESULTS: sight.results}
    sentence = sight.sentence(stack.model.name)
    warnings = (f"{sentence}. Next: {tool_sight.remedy()}",) if sentence else ()
    return msgspec.structs.replace(stack, capabilities=seen), warnings


def missing(stack: StackRecord) -> str:
    """The sentence about a deployed model that is not shown tools; empty where it is, and where nobody knows."""
    tools, results = stack.capabilities.get(TOOLS, True), stack.capabilities.get(RESULTS, True)
    return ToolSight(tools, results).sentence(stack.model.name)


def refuse_blind(stack: StackRecord) -> None:
    """Raises NotSo for a model that would never see the tools of Claude Code."""
    sentence = missing(stack)
    if sentence:
        raise NotSo(
            sentence,
            why="Claude Code works by tools: such a model can only talk",
            next=f"{tool_sight.remedy()}; `--without-tools` goes on all the same",
        )


def noted(plan: Plan, header: GgufHeader | None) -> Plan:
    """The plan with a note, where the template shows no tools: the file's own, or the one that the user gave."""
    given = plan.goal.chat_template_file
    sight = None
    if given or header is not None:
        sight = tool_sight.of_text(_text(given)) if given or header is None else tool_sight.of_header(header)
    sentence = sight.sentence(plan.facts.name) if sight is not None else ""
    return replace(plan, notes=(*plan.notes, f"{sentence}; {tool_sight.remedy()}")) if sentence else plan


def _text(path: str) -> str:
    with Path(path).open(encoding="utf-8", errors="replace") as stream:
        return stream.read(MAX_TEXT)
