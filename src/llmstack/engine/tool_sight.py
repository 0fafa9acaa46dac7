"""Whether a model is shown the tools of a request: its prompt is rendered with one tool, and without.

What counts is the prompt. llama-server (build 11434) renders a template as it is and adds no tools of its own: of a
template without a place for them, and of its own ChatML for a file that has none, both prompts are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.commands import command_line
from llmstack.errors import NotSo
from llmstack.gguf import GgufHeader

if TYPE_CHECKING:
    from llmstack.engine.control import EngineClient

PATIENCE_S = 10.0
_TOOL, _RESULT = "look_up_weather", "overcast-and-17-degrees"  # words that no template has by itself
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "The weather of a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
        },
    }
]
_QUESTION: dict[str, Any] = {"role": "user", "content": "How is the weather in Bremen?"}

Body = dict[str, Any]
Render = Callable[[Sequence[Body]], Sequence[str | None]]


@dataclass(frozen=True, slots=True)
class ToolSight:
    """tools: the model is shown a request's tools; results: and what a call of one came back with."""

    tools: bool
    results: bool

    @property
    def complete(self) -> bool:
        return self.tools and self.results

    def sentence(self, model: str) -> str:
        """What is missing; empty where nothing is."""
        if not self.tools:
            return (
                f"{model} is shown no tools: its chat template has no place for them, so those of Claude Code "
                f"would never reach it"
            )
        return "" if self.results else f"{model} is not shown what its tools return: its chat template leaves that out"


def remedy() -> str:
    return (
        f"{command_line('models', 'list')}   shows models that call tools; "
        f"--set chat-template-file=FILE gives this one another template"
    )


def of_server(client: EngineClient) -> ToolSight | None:
    """As the running server renders it; None where it does not say."""

    def render(bodies: Sequence[Body]) -> list[str | None]:
        return [_applied(client, body) for body in bodies]

    return judge(render)


def of_header(header: GgufHeader, *, patience_s: float = PATIENCE_S) -> ToolSight | None:
    """As a file's own template says, before anything starts; None without a template, or where it can't be rendered."""
    values = header.values
    variant = values.get("tokenizer.chat_template.tool_use")  # llama.cpp takes it for requests with tools
    text = variant if isinstance(variant, str) else header.chat_template
    return of_text(text, patience_s=patience_s) if text else None


def of_text(template: str, *, patience_s: float = PATIENCE_S) -> ToolSight | None:
    """A template is a stranger's program: it runs in jinja2's sandbox, in a process with bounds on time and memory."""
    import json
    import subprocess

    def render(bodies: Sequence[Body]) -> list[str | None]:
        request = {"template": template, "bos_token": "<s>", "eos_token": "</s>", "bodies": bodies}
        child = [sys.executable, "-I", str(Path(__file__).with_name("render_template.py"))]
        try:
            done = subprocess.run(
                child, input=json.dumps(request).encode(), capture_output=True, timeout=patience_s, env={}, cwd="/"
            )
            prompts = json.loads(done.stdout)["prompts"]
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
            return [None] * len(bodies)
        return list(prompts)

    return judge(render)


def judge(render: Render) -> ToolSight | None:
    """From the prompts of one conversation without a tool, with one, and after a call of it. None when there is none.

    A call's arguments are text on the wire; some templates want the object, and render only one of both.
    """
    called = [_called({"town": "Bremen"}), _called('{"town": "Bremen"}')]
    bare: Body = {"messages": [_QUESTION], "add_generation_prompt": True}
    bodies = [bare, bare | {"tools": _TOOLS}, *(bare | {"tools": _TOOLS, "messages": messages} for messages in called)]
    without, offered, *answered = render(bodies)
    if without is None and offered is None:
        return None
    shows_tools = offered is not None and offered != without and _TOOL in offered
    return ToolSight(shows_tools, any(prompt is not None and _RESULT in prompt for prompt in answered))


def _called(arguments: object) -> list[dict[str, Any]]:
    call = {"id": "call00001", "type": "function", "function": {"name": _TOOL, "arguments": arguments}}
    return [
        _QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "name": _TOOL, "content": _RESULT},
    ]


def _applied(client: EngineClient, body: Body) -> str | None:
    try:
        return client.apply_template(body)
    except NotSo:
        return None
