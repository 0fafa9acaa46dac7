"""Anthropic's side: the request, the server-sent events, the whole message.

Source: the Messages API reference (docs.anthropic.com/en/api/messages and /messages-streaming) and what the
real client sends (docs/proxy.md, "What Claude Code does"). Fields this stack has no use for are left out and
ignored on input; a wrong type in a field that is read is a 400 that names its path.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ContentBlock(msgspec.Struct, gc=False):
    """One content block of any type. Which fields count depends on `type`; unknown types are kept by name."""

    type: str
    text: str = ""
    source: Any = None  # image, document: an object; search_result: an address
    title: str | None = None  # document, search_result
    context: str | None = None  # document
    id: str = ""  # tool_use, server_tool_use
    name: str = ""
    input: Any = None
    tool_use_id: str = ""  # tool_result
    content: Any = None  # tool_result, web_search_tool_result, search_result
    is_error: bool | None = None
    thinking: str = ""
    signature: str | None = None
    data: str = ""  # redacted_thinking
    tool_name: str = ""  # tool_reference
    tool: Any = None  # tool_addition, tool_removal
    tool_changes: Any = None  # compaction
    server_name: str = ""  # mcp_tool_use
    mcp_server_name: str = ""  # mcp_tool_listing
    tools: Any = None  # mcp_tool_listing
    tabs: Any = None  # browser_state
    state_changes: Any = None  # browser_state


class OutputConfig(msgspec.Struct, gc=False):
    effort: str | None = None
    format: dict[str, Any] | None = None


class _Absent(str):
    """The content of a message that has none."""


class Message(msgspec.Struct, gc=False):
    """A system message inside the conversation may have no content, only another effort."""

    role: str
    content: str | list[ContentBlock] = _Absent()
    output_config: OutputConfig | None = None

    def __post_init__(self) -> None:
        if self.content.__class__ is _Absent:
            if self.role != "system":
                raise ValueError("content is required")
            self.content = ""


class Tool(msgspec.Struct, gc=False):
    """`type` absent or "custom": a function of the client. Any other type: one of Anthropic's own tools."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Any = None
    defer_loading: bool | None = None
    strict: bool | None = None
    input_examples: list[Any] | None = None
    allowed_domains: Any = None  # web_search, web_fetch: looked at where one is answered (protocol/web)
    blocked_domains: Any = None
    max_uses: Any = None
    max_content_tokens: Any = None


class ToolChoice(msgspec.Struct, gc=False):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(msgspec.Struct, gc=False):
    type: str
    budget_tokens: int | None = None


class MessagesRequest(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: int | None = None
    system: str | list[ContentBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    thread: Any = None
    mcp_servers: Any = None
    container: Any = None
    ignored: tuple[str, ...] = ()  # names of fields that only Anthropic's servers give an effect


# ---- events ---------------------------------------------------------------------------------------------


class Usage(msgspec.Struct, gc=False):
    """Tokens. input_tokens counts what was computed and not written to a cache; prompt is all of it."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0

    @property
    def prompt(self) -> int:
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens


class ServerToolUsage(msgspec.Struct, frozen=True, gc=False):
    """How often a tool of the server's was used."""

    web_search_requests: int = 0
    web_fetch_requests: int = 0


class UsageWithTools(Usage, gc=False):
    """Of an answer with such a tool."""

    server_tool_use: ServerToolUsage = ServerToolUsage()


class Event(msgspec.Struct, tag_field="type"):
    """One server-sent event; its tag is the event's name on the wire."""


class MessageBody(msgspec.Struct, gc=False):
    id: str
    model: str
    usage: Usage
    type: str = "message"
    role: str = "assistant"
    content: list[Any] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None


class MessageStart(Event, tag="message_start"):
    message: MessageBody


class TextBlock(msgspec.Struct, tag="text", gc=False):
    text: str = ""


class ThinkingBlock(msgspec.Struct, tag="thinking", gc=False):
    thinking: str = ""
    signature: str = ""


class ToolUseBlock(msgspec.Struct, tag="tool_use", gc=False):
    id: str
    name: str
    input: dict[str, Any] = {}


class ServerToolUseBlock(msgspec.Struct, tag="server_tool_use", gc=False):
    id: str
    name: str
    input: dict[str, Any] = {}


class WebSearchResultBlock(msgspec.Struct, tag="web_search_tool_result", gc=False):
    tool_use_id: str
    content: Any


class WebFetchResultBlock(msgspec.Struct, tag="web_fetch_tool_result", gc=False):
    tool_use_id: str
    content: Any


AnyBlock = TextBlock | ThinkingBlock | ToolUseBlock | ServerToolUseBlock | WebSearchResultBlock | WebFetchResultBlock


class BlockStart(Event, tag="content_block_start"):
    index: int
    content_block: AnyBlock


class TextDelta(msgspec.Struct, tag="text_delta", gc=False):
    text: str


class ThinkingDelta(msgspec.Struct, tag="thinking_delta", gc=False):
    thinking: str


class SignatureDelta(msgspec.Struct, tag="signature_delta", gc=False):
    signature: str


class InputJsonDelta(msgspec.Struct, tag="input_json_delta", gc=False):
    partial_json: str


AnyDelta = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockDelta(Event, tag="content_block_delta"):
    index: int
    delta: AnyDelta


class BlockStop(Event, tag="content_block_stop"):
    index: int


class StopDelta(msgspec.Struct, gc=False):
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class MessageDelta(Event, tag="message_delta"):
    delta: StopDelta
    usage: Usage


class MessageStop(Event, tag="message_stop"):
    pass


class ErrorBody(msgspec.Struct, gc=False):
    type: str
    message: str


class ErrorEvent(Event, tag="error"):
    error: ErrorBody


AnyEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | ErrorEvent
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def decode_event(payload: bytes) -> AnyEvent | None:
    """The data of one server-sent event; None for one that no client of this stack needs (ping, newer kinds)."""
    try:
        return _event_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
