"""What one upstream understands of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmstack.protocol.content import Images
from llmstack.protocol.tools import ServerTools, sent_name

ThinkingStyle = Literal["template", "effort", "effort-or-none", "none"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one upstream understands. llama_server: it takes llama.cpp's own fields besides OpenAI's.

    thinking: by the chat template's enable_thinking, by reasoning_effort, by reasoning_effort with the word `none`
    for off (an upstream that thinks unless it is told not to), or not at all.
    stable_prefix: lines that differ between directories and days go behind what never does (volatile_lines.py).
    fields: further request fields passed on as they are (top_k where the upstream knows it). open_tools: tools whose
    schema it makes no grammar of.
    """

    llama_server: bool = True
    images: Images = "pass"
    server_tools: ServerTools = "explain"
    thinking: ThinkingStyle = "template"
    replay_reasoning: bool = True
    fields: frozenset[str] = frozenset()
    max_tokens_field: str = "max_tokens"
    max_output: int | None = None
    unsupported: frozenset[str] = frozenset()
    stable_prefix: bool = False
    open_tools: frozenset[str] = frozenset()

    def tool_name(self, name: str) -> str:
        """The name of a tool as this upstream takes it."""
        return name if self.llama_server else sent_name(name)
