"""A Messages request becomes the body of a chat completion.

- The same request gives the same bytes: the upstream's KV cache is a prefix of bytes.
- Tool messages first, in the order of the calls, then user text: templates pair a call with the message behind it.
- A system message inside the conversation is folded where it stands. Hoisting it computes everything again
  (vllm#53393, ollama#18431), leaving it there is a 400 from strict templates (claude-code#77698).
- Never a message between a call and its result: strict templates refuse it.
- Raw arguments are put back by tool_use id, because the client rewrites them (protocol/replay.py).
- Only known fields go upstream: servers answer 400 to what they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from llmstack.protocol.anthropic import MessagesRequest, Tool
from llmstack.protocol.conversation import Conversation
from llmstack.protocol.dialect import Dialect, Turn
from llmstack.protocol.errors import Refused, invalid, no_threads, unsupported
from llmstack.protocol.grammatical import grammatical
from llmstack.protocol.limits import most
from llmstack.protocol.loaded_tools import CALLER
from llmstack.protocol.replay import Replay
from llmstack.protocol.schema import is_strict
from llmstack.protocol.tool_changes import offered_tools
from llmstack.protocol.tools import Toolbox, Toolboxes

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(slots=True)
class ChatRequest:
    """body: the upstream's request, except model and max_tokens, which the shell decides last.

    forced: the tool whose arguments the answer's text is; empty where calls come as calls.
    """

    body: dict[str, Any]
    toolbox: Toolbox
    used_ids: frozenset[str]
    max_tokens: int | None
    thinking: bool
    stop_sequences: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    images: int = 0
    forced: str = ""


def decode(body: bytes) -> MessagesRequest:
    """The client's bytes as a request. Raises Refused (400) for what is no valid JSON or no valid request."""
    return checked(bounded_value(body))


def bounded_value(body: bytes) -> Any:
    """The JSON of a request, decoded whole, so that an invalid byte, a lone surrogate, NaN or an endless number is
    refused wherever it stands. Raises Refused (400)."""
    values = most("values")
    if len(body) > values and body.count(b",") + body.count(b"{") + body.count(b"[") > values:
        raise Refused(invalid(f"the request has more than {values} values"))
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise Refused(invalid("the request is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(invalid(f"the request is no valid JSON: {error}")) from None


def checked(value: Any) -> MessagesRequest:
    """The body of a Messages request with its types. Raises Refused (400), which names the place."""
    try:
        request = msgspec.convert(value, MessagesRequest)
    except msgspec.ValidationError as error:
        raise Refused(invalid(_pathed(str(error)))) from None
    except RecursionError:
        raise Refused(invalid("the request is nested too deeply")) from None
    if not request.messages:
        raise Refused(invalid("messages: at least one message is required"))
    if request.max_tokens is not None and request.max_tokens < 1:
        raise Refused(invalid("max_tokens: must be at least 1"))
    _bounded(request)
    request.ignored = tuple(name for name in value if name not in request.__struct_fields__)
    return request


def _bounded(request: MessagesRequest) -> None:
    """Raises Refused for more than a translation can take without holding up the others (limits.py)."""
    blocks = 0
    for message in request.messages:
        if isinstance(message.content, str):
            blocks += 1
            continue
        blocks += len(message.content)
        blocks += sum(len(block.content) for block in message.content if isinstance(block.content, list))
    for name, count in (
        ("messages", len(request.messages)),
        ("blocks", blocks + (len(request.system) if isinstance(request.system, list) else 0)),
        ("tools", len(request.tools or ())),
    ):
        if count > most(name):
            raise Refused(invalid(f"{name}: {count} are more than the {most(name)} that one request may have"))


def _pathed(message: str) -> str:
    """`Expected `str`, got `int` - at `$.messages[0].role`` with the path first, as Anthropic words it."""
    text, mark, path = message.rpartition(" - at `$")
    if not mark:
        return message
    return f"{path.rstrip('`').lstrip('.')}: {text}"


class Translator:
    """Turns requests into bodies; keeps only caches, so equal requests give equal bodies."""

    def __init__(self, replay: Replay | None = None) -> None:
        self.replay = replay if replay is not None else Replay()
        self._toolboxes = Toolboxes()

    def _toolbox(self, tools: list[Tool], dialect: Dialect) -> Toolbox:
        return self._toolboxes.get(tools, llama_server=dialect.llama_server, open_tools=dialect.open_tools)

    def to_chat(
        self, request: MessagesRequest, dialect: Dialect, documents: Mapping[str, str] | None = None
    ) -> ChatRequest:
        """documents: the texts of its PDFs by their base64. None: they are read here, which no event loop may wait for.

        Raises Refused for what this upstream cannot be given.
        """
        if request.thread is not None:
            raise Refused(no_threads())
        offered = offered_tools(request, keep_list=dialect.llama_server)
        toolbox = self._toolbox(offered.listed, dialect)
        if offered.by_name:
            toolbox = toolbox.calling(self._toolbox(list(offered.by_name.values()), dialect), CALLER)
        conversation = Conversation(request, dialect, self.replay, documents, offered.by_name)
        messages = conversation.translate()
        if toolbox.server and dialect.server_tools == "refuse":
            raise Refused(
                unsupported(f"{toolbox.server[0]} is a tool of Anthropic's servers; this stack cannot run it")
            )
        body: dict[str, Any] = {"messages": messages}
        forced = _tools(body, request, toolbox, dialect)
        thinking = _thinking(body, request, dialect)
        notes = [f"dropped the server tool {name}" for name in toolbox.server]
        notes += [
            f"dropped {name}: only Anthropic's servers have it"
            for name, value in (("mcp_servers", request.mcp_servers), ("container", request.container))
            if value
        ]
        _sampling(body, request, dialect, notes)
        for name in dialect.unsupported:
            body.pop(name, None)
        return ChatRequest(
            body=body,
            toolbox=toolbox,
            used_ids=frozenset(conversation.used_ids),
            max_tokens=_least(request.max_tokens, dialect.max_output),
            thinking=thinking,
            stop_sequences=tuple(request.stop_sequences or ()),
            notes=notes,
            images=conversation.images,
            forced=forced,
        )


def _least(first: int | None, second: int | None) -> int | None:
    return min(first, second) if first is not None and second is not None else first or second


def _tools(body: dict[str, Any], request: MessagesRequest, toolbox: Toolbox, dialect: Dialect) -> str:
    """Returns the tool whose arguments the answer's text will be; empty where calls come as calls."""
    if not toolbox.functions:
        return ""
    body["tools"] = msgspec.Raw(toolbox.functions)
    choice = request.tool_choice
    if choice is None:
        return ""
    forced = dialect.tool_name(str(choice.name)) if choice.type == "tool" else ""
    if choice.type == "tool" and forced not in toolbox.schemas:
        raise Refused(invalid(f"tool_choice.name: {choice.name!r} is none of the tools"))
    if forced and dialect.llama_server:
        # llama-server's own `required` knows no name, lets prose of any length come before the call, and is not heard
        # where a template shows no tools. A schema is kept from the first token on, and beside tools it is taken with
        # `none` alone (oaicompat_chat_params_parse). All tools stay in the prompt, so the cache holds. `any` is left to
        # the engine: the model then writes the call in its own format, which the next turn finds in the cache.
        body["tool_choice"] = "none"
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "arguments", "schema": toolbox.arguments_schema(forced)},
        }
        return forced
    if choice.type == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": forced}}
    else:
        body["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice.type]
    if choice.disable_parallel_tool_use and choice.type != "none":
        body["parallel_tool_calls"] = False
    return ""


def _thinking(body: dict[str, Any], request: MessagesRequest, dialect: Dialect) -> bool:
    """Writes into `body` how this upstream is told to think; returns whether the client takes thinking blocks.

    It takes them unless it says `disabled` (Messages API, "Extended thinking"). If the client sets effort but not
    `thinking`, thinking is off.
    """
    thinking = request.thinking
    effort = _effort(request)
    on = thinking is not None and thinking.type in ("enabled", "adaptive", "between_tools")
    budget = thinking.budget_tokens if thinking is not None else None
    limit = dialect.thinking_budget.get(turn_of(request)) if on else None
    if limit is not None:
        on, budget, effort = limit > 0, _least(budget, limit), None
    if dialect.thinking == "template":
        if thinking is not None or effort is not None:
            body["chat_template_kwargs"] = {"enable_thinking": on}
        if on:
            if effort in EFFORTS:
                body["reasoning_effort"] = "high" if effort in ("xhigh", "max") else effort
            if budget is not None:
                body["thinking_budget_tokens"] = budget
    elif dialect.thinking == "effort-or-none" and not on:
        body["reasoning_effort"] = "none"
    elif dialect.thinking in ("effort", "effort-or-none"):
        if on and effort in EFFORTS:
            body["reasoning_effort"] = "high" if effort in ("xhigh", "max") else effort
        elif on and budget is not None:
            body["reasoning_effort"] = "low" if budget < 4096 else "medium" if budget < 16384 else "high"
    return thinking is None or thinking.type != "disabled"


def turn_of(request: MessagesRequest) -> Turn:
    if not request.tools:
        return "side"
    content = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
    return "tools" if not isinstance(content, str) and content and content[-1].type == "tool_result" else "question"


def _effort(request: MessagesRequest) -> str | None:
    """The last one that was said: a system message may change it on the way (Messages API, "Effort per message")."""
    for message in reversed(request.messages):
        if message.role == "system" and message.output_config is not None and message.output_config.effort is not None:
            return message.output_config.effort
    return request.output_config.effort if request.output_config else None


def _sampling(body: dict[str, Any], request: MessagesRequest, dialect: Dialect, notes: list[str]) -> None:
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.top_k is not None and (dialect.llama_server or "top_k" in dialect.fields):
        body["top_k"] = request.top_k
    if request.stop_sequences:
        body["stop"] = list(request.stop_sequences)
        if dialect.llama_server:
            # Which word it was stands only in the verbose part; response_fields keeps the prompt out of it.
            body["verbose"] = True
            body["response_fields"] = ["stop_type", "stopping_word"]
    output_format = request.output_config.format if request.output_config else None
    output_format = output_format or request.output_format
    if output_format and output_format.get("type") == "json_schema" and isinstance(output_format.get("schema"), dict):
        if dialect.llama_server and "tools" in body:
            notes.append("left out the output format: llama.cpp takes no schema beside tools")
        else:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": _answer_schema(output_format["schema"], dialect),
            }
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    if dialect.llama_server:
        body["cache_prompt"] = True
        body["return_progress"] = True


def _answer_schema(schema: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    if dialect.llama_server:
        return {"name": "answer", "schema": grammatical(schema), "strict": True}
    strict = {"strict": True} if is_strict(schema) else {}
    return {"name": "answer", "schema": schema, **strict}
