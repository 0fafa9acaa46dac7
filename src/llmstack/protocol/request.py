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
from typing import Any, Literal

import msgspec

from llmstack.protocol import volatile_lines
from llmstack.protocol.anthropic import ContentBlock, Message, MessagesRequest
from llmstack.protocol.content import (
    Images,
    Parts,
    add_image,
    blocks_of,
    document_text,
    server_block_text,
    system_text,
    tool_result,
)
from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.replay import Replay
from llmstack.protocol.tools import ServerTools, Toolbox, Toolboxes

ThinkingStyle = Literal["template", "effort", "effort-or-none", "none"]
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one upstream understands. llama_server: it takes llama.cpp's own fields besides OpenAI's.

    thinking: by the chat template's enable_thinking, by reasoning_effort, by reasoning_effort with the word `none`
    for off (an upstream that thinks unless it is told not to), or not at all.
    stable_prefix: lines that differ between directories and days go behind what never does (volatile_lines.py).
    fields: further request fields passed on as they are (top_k where the upstream knows it).
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
    """The client's bytes as a request. Raises Refused (400) for what is no valid JSON or no valid request.

    Decoded whole first, so that an invalid byte, a lone surrogate, NaN or an endless number is refused wherever it
    stands, then given its types.
    """
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise Refused(invalid("the request is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(invalid(f"the request is no valid JSON: {error}")) from None
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
    return request


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

    def to_chat(
        self, request: MessagesRequest, dialect: Dialect, documents: Mapping[str, str] | None = None
    ) -> ChatRequest:
        """documents: the texts of its PDFs by their base64, as far as they are read already; others are read here.

        Raises Refused for what this upstream cannot be given.
        """
        conversation = Conversation(request, dialect, self.replay, documents or {})
        messages = conversation.translate()
        toolbox = self._toolboxes.get(
            request.tools, strict_grammar=dialect.llama_server, loaded=frozenset(conversation.loaded)
        )
        if toolbox.server and dialect.server_tools == "refuse":
            raise Refused(
                unsupported(f"{toolbox.server[0]} is a tool of Anthropic's servers; this stack cannot run it")
            )
        body: dict[str, Any] = {"messages": messages}
        forced = _tools(body, request, toolbox, dialect)
        thinking = _thinking(body, request, dialect)
        notes = [f"dropped the server tool {name}" for name in toolbox.server]
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
    if choice.type == "tool" and choice.name not in toolbox.schemas:
        raise Refused(invalid(f"tool_choice.name: {choice.name!r} is none of the tools"))
    forced = str(choice.name) if choice.type == "tool" else ""
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
    effort = request.output_config.effort if request.output_config else None
    on = thinking is not None and thinking.type in ("enabled", "adaptive")
    if dialect.thinking == "template":
        if thinking is not None or effort is not None:
            body["chat_template_kwargs"] = {"enable_thinking": on}
        if on:
            if effort in EFFORTS:
                body["reasoning_effort"] = "high" if effort in ("xhigh", "max") else effort
            if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is not None:
                body["thinking_budget_tokens"] = thinking.budget_tokens
    elif dialect.thinking == "effort-or-none" and not on:
        body["reasoning_effort"] = "none"
    elif dialect.thinking in ("effort", "effort-or-none"):
        if on and effort in EFFORTS:
            body["reasoning_effort"] = "high" if effort in ("xhigh", "max") else effort
        elif on and thinking is not None and thinking.budget_tokens is not None:
            budget = thinking.budget_tokens
            body["reasoning_effort"] = "low" if budget < 4096 else "medium" if budget < 16384 else "high"
    return thinking is None or thinking.type != "disabled"


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
                "json_schema": {"name": "answer", "schema": output_format["schema"], "strict": True},
            }
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    if dialect.llama_server:
        body["cache_prompt"] = True
        body["return_progress"] = True


class Conversation:
    """The messages, one after the other, into an output that is only ever appended to or extended at its end."""

    def __init__(
        self, request: MessagesRequest, dialect: Dialect, replay: Replay, documents: Mapping[str, str]
    ) -> None:
        self._request = request
        self._documents = documents
        self._dialect = dialect
        self._replay = replay
        self._out: list[dict[str, Any]] = []
        self._user: Parts | None = None  # the user message that is still open for more text
        self._pending: list[str] = []  # folded texts that wait for the results of open calls
        self._calls: list[tuple[str, str]] = []  # (tool_use id, upstream id) that wait for a result
        self.used_ids: set[str] = set()
        self.loaded: set[str] = set()
        self.images = 0

    def translate(self) -> list[dict[str, Any]]:
        request = self._request
        system = system_text(request.system)
        messages = request.messages
        start = 0
        while start < len(messages) and messages[start].role == "system":
            system = "\n\n".join(part for part in (system, _plain(messages[start])) if part)
            start += 1
        moved = ""
        first = start  # the message that begins the conversation
        if self._dialect.stable_prefix and request.tools:
            start, opening = self._told_at_first(start)
            system, moved = volatile_lines.split("\n\n".join(part for part in (system, *opening) if part))
        if system:
            self._out.append({"role": "system", "content": system})
        if moved:
            self._fold(moved)
        last_assistant = max((n for n, m in enumerate(messages) if m.role == "assistant"), default=-1)
        for number in (*range(first, min(first + 1, start)), *range(start, len(messages))):
            message = messages[number]
            where = f"messages[{number}]"
            if message.role == "user":
                self._user_message(message, where, number > last_assistant)
            elif message.role == "assistant":
                self._assistant(message, where)
            elif message.role == "system":
                self._fold(_plain(message))
            else:
                raise Refused(invalid(f"{where}.role: must be user, assistant or system, not {message.role!r}"))
        self._close_calls()
        self._close_user()
        if not any(m["role"] != "system" for m in self._out):
            self._out.append({"role": "user", "content": ""})
        return self._out

    def _told_at_first(self, start: int) -> tuple[int, list[str]]:
        """System messages right behind the first user message: they are there in every request of a session, so they
        can stand in front of it. Returns where the rest begins, and their texts."""
        messages = self._request.messages
        rest = start + 1
        while rest < len(messages) and messages[start].role == "user" and messages[rest].role == "system":
            rest += 1
        if rest == start + 1:
            return start, []
        return rest, [_plain(message) for message in messages[start + 1 : rest]]

    # ---- user -------------------------------------------------------------------------------------------

    def _user_message(self, message: Message, where: str, last_turn: bool) -> None:
        content = message.content
        if isinstance(content, str):
            self._close_calls()
            self._open_user().text(content)
            return
        images = self._dialect.images
        results: dict[str, tuple[str, Parts]] = {}
        strays: list[str] = []
        rest = Parts()
        for number, block in enumerate(content):
            at = f"{where}.content[{number}]"
            kind = block.type
            if kind == "text":
                rest.text(block.text)
            elif kind == "tool_result":
                self._loaded_by(block, at)
                result = tool_result(block, images, self._documents, last_turn, at)
                if any(block.tool_use_id == call for call, _ in self._calls):
                    results[block.tool_use_id] = result
                else:
                    strays.append(f"[result of {block.tool_use_id or 'a tool'}]\n{result[0]}")
                    rest.extend(result[1])
            elif kind == "image":
                # Behind a refusal the client sends the same image again, with more user messages behind it.
                newest = message is self._request.messages[-1]
                add_image(block, rest, images, newest if images == "checked" else last_turn, at)
            elif kind == "document":
                rest.text(document_text(block, self._documents, at))
            elif kind in ("search_result", "web_search_tool_result", "web_fetch_tool_result"):
                rest.text(server_block_text(block))
            elif kind == "container_upload":
                rest.text("[an uploaded file that this stack has no access to]")
            else:
                raise Refused(invalid(f"{at}.type: {kind!r} is no block of a user message"))
        pictures = self._close_calls(results)
        user = Parts()
        user.extend(pictures)
        for stray in strays:
            user.text(stray)
        user.extend(rest)
        if user or self._user is not None or not results:
            self._open_user().extend(user)
        self.images += sum(1 for item in user.items if item["type"] == "image_url")

    def _loaded_by(self, block: ContentBlock, where: str) -> None:
        if isinstance(block.content, list):
            for inner in blocks_of(block.content, where):
                if inner.type == "tool_reference":
                    self.loaded.add(inner.tool_name)

    def _open_user(self) -> Parts:
        if self._user is None:
            self._user = Parts()
        return self._user

    def _close_user(self) -> None:
        if self._user is not None:
            self._out.append({"role": "user", "content": self._user.content})
            self._user = None

    # ---- calls and their results --------------------------------------------------------------------------

    def _close_calls(self, results: Mapping[str, tuple[str, Parts]] | None = None) -> Parts:
        """Answers every open call, in the order of the calls; one without a result says so."""
        pictures = Parts()
        for call, upstream_id in self._calls:
            text, images = (results or {}).get(call, ("[no result: the call was interrupted]", Parts()))
            pictures.extend(images)
            self._out.append({"role": "tool", "tool_call_id": upstream_id, "content": text})
        self._calls = []
        for text in self._pending:
            self._fold(text)
        self._pending = []
        return pictures

    def _fold(self, text: str) -> None:
        """A system text takes its place at the end of what stands before it."""
        if not text:
            return
        note = text if text.lstrip().startswith("<") else f"<system-reminder>\n{text}\n</system-reminder>"
        if self._calls:
            self._pending.append(text)
        elif self._user is not None:
            self._user.text(note)
        elif self._out and self._out[-1]["role"] == "tool":
            self._out[-1]["content"] = f"{self._out[-1]['content']}\n\n{note}"
        else:
            self._open_user().text(note)

    # ---- assistant ----------------------------------------------------------------------------------------

    def _assistant(self, message: Message, where: str) -> None:
        self._close_calls()
        self._close_user()
        text: list[str] = []
        reasoning: list[str] = []
        calls: list[dict[str, Any]] = []
        blocks = (
            [ContentBlock(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        )
        for number, block in enumerate(blocks):
            kind = block.type
            if kind == "text":
                text.append(block.text)
            elif kind == "thinking":
                reasoning.append(block.thinking)
            elif kind == "tool_use":
                calls.append(self._call(block, f"{where}.content[{number}]"))
            elif kind == "redacted_thinking":
                continue
            elif kind.endswith("_tool_result") or kind == "server_tool_use":
                text.append(server_block_text(block) + "\n")
            else:
                raise Refused(invalid(f"{where}.content[{number}].type: {kind!r} is no block of an assistant message"))
        joined = "".join(text)
        result: dict[str, Any] = {"role": "assistant", "content": joined if joined or not calls else None}
        if self._dialect.replay_reasoning and any(reasoning):
            result["reasoning_content"] = "".join(reasoning)
        if calls:
            result["tool_calls"] = calls
        previous = self._out[-1] if self._out else None
        if previous is not None and previous["role"] == "assistant" and "tool_calls" not in previous:
            # Two in a row are one turn; strict templates refuse them apart.
            previous["content"] = "\n\n".join(part for part in (previous["content"], joined) if part)
            for key in ("reasoning_content", "tool_calls"):
                if key in result:
                    previous[key] = result[key]
            return
        self._out.append(result)

    def _call(self, block: ContentBlock, where: str) -> dict[str, Any]:
        if not block.id or not block.name:
            raise Refused(invalid(f"{where}: a tool_use needs id and name"))
        self.used_ids.add(block.id)
        generated = self._replay.get(block.id)
        if generated is not None:
            upstream_id, arguments = generated.upstream_id or block.id, generated.arguments
        else:
            upstream_id = block.id
            value = block.input if isinstance(block.input, dict) else {}
            arguments = msgspec.json.encode(value).decode()
        self._calls.append((block.id, upstream_id))
        return {"id": upstream_id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _plain(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(block.text for block in message.content if block.type == "text" and block.text)
