"""Answers that need no model: a side call whose only tool is one that Anthropic's servers run.

Claude Code asks for a web search with a request of its own. No local model can search; an answer in the search
tool's own shape says so, and the main conversation goes on with that knowledge instead of with an invented result.
"""

from __future__ import annotations

from llmstack.protocol.anthropic import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    InputJsonDelta,
    MessageBody,
    MessageDelta,
    MessagesRequest,
    MessageStart,
    MessageStop,
    ServerToolUseBlock,
    StopDelta,
    TextBlock,
    TextDelta,
    Usage,
    WebSearchResultBlock,
)
from llmstack.protocol.tools import is_server_tool


def only_server_tools(request: MessagesRequest) -> str | None:
    """The name of the server tool, when the request offers nothing else."""
    tools = request.tools
    if not tools or not all(is_server_tool(tool) for tool in tools):
        return None
    return tools[0].name or str(tools[0].type)


def unavailable_tool(request: MessagesRequest, name: str, message_id: str, tool_id: str) -> list[Event]:
    """A whole message that says the tool cannot be used here."""
    text = (
        f"{name} is not available: this model runs on the user's own machine, and {name} is a service of Anthropic's"
        " servers. No search was made and there are no results. Answer from what is known, or use another tool."
    )
    usage = Usage(input_tokens=1, output_tokens=len(text) // 4)
    events: list[Event] = [
        MessageStart(message=MessageBody(id=message_id, model=request.model, usage=usage)),
    ]
    index = 0
    if name == "web_search":
        events += [
            BlockStart(index=0, content_block=ServerToolUseBlock(id=tool_id, name=name)),
            BlockDelta(index=0, delta=InputJsonDelta('{"query":""}')),
            BlockStop(index=0),
            BlockStart(
                index=1,
                content_block=WebSearchResultBlock(
                    tool_use_id=tool_id,
                    content={"type": "web_search_tool_result_error", "error_code": "unavailable"},
                ),
            ),
            BlockStop(index=1),
        ]
        index = 2
    events += [
        BlockStart(index=index, content_block=TextBlock()),
        BlockDelta(index=index, delta=TextDelta(text)),
        BlockStop(index=index),
        MessageDelta(delta=StopDelta(stop_reason="end_turn"), usage=usage),
        MessageStop(),
    ]
    return events
