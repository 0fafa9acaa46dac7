"""What one upstream understands of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from llmstack.protocol.content import Images
from llmstack.protocol.tools import ServerTools, sent_name

Turn = Literal["question", "tools", "side"]
"""What an answer goes on from: a user's words, results of tools, or a request that offers no tools (a title)."""
TURNS: tuple[Turn, ...] = get_args(Turn)
ThinkingStyle = Literal["template", "effort", "effort-or-none", "none"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one upstream understands. llama_server: it takes llama.cpp's own fields besides OpenAI's.

    thinking: by the chat template's enable_thinking, by reasoning_effort, by reasoning_effort with the word `none`
    for off (an upstream that thinks unless it is told not to), or not at all.
    stable_prefix: lines that differ between directories and days go behind what never does (volatile_lines.py).
    fields: further request fields passed on as they are (top_k where the upstream knows it). open_tools: tools whose
    schema it makes no grammar of. thinking_budget: the most tokens of thinking by kind of turn, 0 for none.
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
    thinking_budget: Mapping[str, int] = field(default_factory=dict)

    def tool_name(self, name: str) -> str:
        """The name of a tool as this upstream takes it."""
        return name if self.llama_server else sent_name(name)
