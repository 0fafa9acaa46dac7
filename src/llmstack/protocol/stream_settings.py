"""What a stream must know of the request that it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmstack.protocol.limits import most
from llmstack.protocol.replay import Generated


@dataclass(slots=True)
class StreamSettings:
    """What the request knew. tools: schema by name. input_tokens: the preflight's count, for message_start.

    max_arguments: bytes all arguments of one call may have before the stream is given up (fault 47).
    new_tool_id(upstream_id): an id that is unique in this conversation. remember(tool_use_id, generated): keeps
    what the model really wrote, for the next turn. forced: the tool whose arguments the text of this answer is.
    names: the client's name of a tool, where the upstream was given another one. caller: the function that calls others
    by name (loaded_tools.py), or "". show_reading: the client is shown how far its prompt is read (reading.py).
    """

    model: str
    message_id: str
    new_tool_id: Callable[[str], str]
    upstream: str = "upstream"
    tools: Mapping[str, Any] = field(default_factory=dict)
    remember: Callable[[str, Generated], None] | None = None
    input_tokens: int = 0
    stop_sequences: tuple[str, ...] = ()
    recover_leaks: bool = True
    repair: bool = True
    thinking: bool = True
    inline_thinking: bool = True
    signature: str = "llmstack"
    forced: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    caller: str = ""
    show_reading: bool = False
    max_arguments: int = most("arguments")
