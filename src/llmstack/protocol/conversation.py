"""The messages of a request, one after the other, as the messages of a chat completion. Every pass is linear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llmstack.protocol import volatile_lines
from llmstack.protocol.anthropic import ContentBlock, Message, MessagesRequest, Tool
from llmstack.protocol.content import (
    Parts,
    add_image,
    system_text,
    text_blocks,
    tool_result,
    without_billing,
)
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.document import document_text
from llmstack.protocol.errors import Refused, invalid
from llmstack.protocol.loaded_tools import CALLER, introduction, wrapped
from llmstack.protocol.reading import SIGNATURE as READING
from llmstack.protocol.replay import Replay
from llmstack.protocol.told import is_told, told
from llmstack.protocol.tool_changes import added_tools


class Conversation:
    """The messages, one after the other, into an output that is only ever appended to or extended at its end."""

    def __init__(
        self,
        request: MessagesRequest,
        dialect: Dialect,
        replay: Replay,
        documents: Mapping[str, str] | None,
        by_name: Mapping[str, Tool] | None = None,
    ) -> None:
        """by_name: the tools that are no functions of their own (loaded_tools.py)."""
        self._by_name = by_name or {}
        self._request = request
        self._documents = documents
        self._dialect = dialect
        self._replay = replay
        self._out: list[dict[str, Any]] = []
        self._user: Parts | None = None  # the user message that is still open for more text
        self._pending: list[str] = []  # folded texts that wait for the results of open calls
        self._calls: list[tuple[str, str]] = []  # (tool_use id, upstream id) that wait for a result
        self._open: set[str] = set()  # their tool_use ids
        self._growing: list[str] = []  # the last message's text and what was added to it, joined when it is complete
        self._brought_forward: set[int] = set()  # results that stand in a later user message than the first
        self.used_ids: set[str] = set()
        self.images = 0

    def translate(self) -> list[dict[str, Any]]:
        request = self._request
        system = system_text(request.system)
        messages, before = _behind_summary(request.messages)
        self._messages = messages
        start = 0
        while start < len(messages) and messages[start].role == "system":
            start += 1
        if start:
            system = "\n\n".join(part for part in (system, *map(self._system_message, messages[:start])) if part)
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
            where = f"messages[{number + before}]"
            if message.role == "user":
                self._user_message(message, where, number, number > last_assistant)
            elif message.role == "assistant":
                self._assistant(message, where)
            elif message.role == "system":
                self._fold(self._system_message(message))
            else:
                raise Refused(invalid(f"{where}.role: must be user, assistant or system, not {message.role!r}"))
        self._close_calls()
        self._close_user()
        self._settle()
        if not any(m["role"] != "system" for m in self._out):
            self._out.append({"role": "user", "content": ""})
        return self._out

    def _told_at_first(self, start: int) -> tuple[int, list[str]]:
        """System messages right behind the first user message: they are there in every request of a session, so they
        can stand in front of it. Returns where the rest begins, and their texts."""
        messages = self._messages
        rest = start + 1
        while rest < len(messages) and messages[start].role == "user" and messages[rest].role == "system":
            rest += 1
        if rest == start + 1:
            return start, []
        return rest, [self._system_message(message) for message in messages[start + 1 : rest]]

    def _system_message(self, message: Message) -> str:
        added = (self._by_name[name] for name in added_tools(message) if name in self._by_name)
        return "\n\n".join(part for part in (_plain(message), *map(introduction, added)) if part)

    # ---- user -------------------------------------------------------------------------------------------

    def _user_message(self, message: Message, where: str, index: int, last_turn: bool) -> None:
        content = [ContentBlock("text", message.content)] if isinstance(message.content, str) else message.content
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
                if id(block) in self._brought_forward:
                    continue
                result = self._result(block, last_turn, at)
                if block.tool_use_id in self._open:
                    results[block.tool_use_id] = result
                else:
                    strays.append(f"[result of {block.tool_use_id or 'a tool'}]\n{result[0]}")
                    rest.extend(result[1])
            elif kind == "image":
                # Behind a refusal the client sends the same image again, with more user messages behind it.
                newest = message is self._messages[-1]
                add_image(block, rest, images, newest if images == "checked" else last_turn, at)
            elif kind == "document":
                rest.text(document_text(block, self._documents, at))
            elif is_told(kind):
                rest.text(told(block, self._documents, at))
            else:
                raise Refused(invalid(f"{at}.type: {kind!r} is no block of a user message"))
        if len(results) < len(self._open):
            self._later_results(results, index, last_turn, where)
        pictures = self._close_calls(results)
        user = Parts()
        user.extend(pictures)
        for stray in strays:
            user.text(stray)
        user.extend(rest)
        if user or self._user is not None or not results:
            self._open_user().extend(user)
        self.images += sum(1 for item in user.items if item["type"] == "image_url")

    def _later_results(self, results: dict[str, tuple[str, Parts]], index: int, last_turn: bool, where: str) -> None:
        """User messages in a row are one turn: the results of its calls may stand in any of them."""
        for message in self._messages[index + 1 :]:
            if message.role == "assistant":
                return
            for block in message.content if message.role == "user" and isinstance(message.content, list) else ():
                call = block.tool_use_id
                if block.type == "tool_result" and call in self._open and call not in results:
                    self._brought_forward.add(id(block))
                    results[call] = self._result(block, last_turn, where)

    def _result(self, block: ContentBlock, last_turn: bool, where: str) -> tuple[str, Parts]:
        return tool_result(block, self._dialect.images, self._documents, last_turn, where, self._by_name)

    def _open_user(self) -> Parts:
        if self._user is None:
            self._user = Parts()
        return self._user

    def _close_user(self) -> None:
        if self._user is not None:
            self._append({"role": "user", "content": self._user.content})
            self._user = None

    # ---- the output -----------------------------------------------------------------------------------------

    def _append(self, message: dict[str, Any]) -> None:
        self._settle()
        self._out.append(message)

    def _extend_last(self, text: str) -> None:
        """Many texts may be added to one message: they are joined once."""
        if not self._growing:
            content = self._out[-1]["content"]
            self._growing = [content] if content or self._out[-1]["role"] == "tool" else []
        self._growing.append(text)

    def _settle(self) -> None:
        if self._growing:
            self._out[-1]["content"] = "\n\n".join(self._growing)
            self._growing = []

    # ---- calls and their results --------------------------------------------------------------------------

    def _close_calls(self, results: Mapping[str, tuple[str, Parts]] | None = None) -> Parts:
        """Answers every open call, in the order of the calls; one without a result says so."""
        pictures = Parts()
        for call, upstream_id in self._calls:
            text, images = (results or {}).get(call, ("[no result: the call was interrupted]", Parts()))
            pictures.extend(images)
            self._append({"role": "tool", "tool_call_id": upstream_id, "content": text})
        self._calls = []
        self._open = set()
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
            self._extend_last(note)
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
                reasoning.append(block.thinking if block.signature != READING else "")
            elif kind == "tool_use":
                calls.append(self._call(block, f"{where}.content[{number}]"))
            elif kind in ("redacted_thinking", "compaction"):
                continue
            elif is_told(kind):
                words = told(block, self._documents, f"{where}.content[{number}]")
                text.append(words + "\n" if words else "")
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
            if joined:
                self._extend_last(joined)
            for key in ("reasoning_content", "tool_calls"):
                if key in result:
                    previous[key] = result[key]
            return
        self._append(result)

    def _call(self, block: ContentBlock, where: str) -> dict[str, Any]:
        if not block.id or not block.name:
            raise Refused(invalid(f"{where}: a tool_use needs id and name"))
        self.used_ids.add(block.id)
        generated = self._replay.get(block.id)
        if generated is not None and generated.caller and not self._by_name:
            generated = None  # another upstream has the tool itself
        extra = generated.extra if generated is not None and not self._dialect.llama_server else ""
        if generated is not None:
            upstream_id, arguments = generated.upstream_id or block.id, generated.arguments
        else:
            upstream_id = block.id
            arguments = msgspec.json.encode(block.input if isinstance(block.input, dict) else {}).decode()
        self._calls.append((block.id, upstream_id))
        self._open.add(block.id)
        name = self._dialect.tool_name(block.name)
        if generated is not None and generated.caller:
            name = generated.caller
        elif name in self._by_name:
            name, arguments = CALLER, wrapped(name, msgspec.Raw(arguments.encode()))
        function = {"name": name, "arguments": arguments}
        call: dict[str, Any] = {"id": upstream_id, "type": "function", "function": function}
        if extra:
            call["extra_content"] = msgspec.json.decode(extra)
        return call


def _plain(message: Message) -> str:
    return without_billing(message.content) if isinstance(message.content, str) else text_blocks(message.content)


def _behind_summary(messages: list[Message]) -> tuple[list[Message], int]:
    """What counts of a conversation that Anthropic has summed up, and how many messages it is shorter.

    A compaction block stands for everything in front of it; one without a text failed (Messages API, "Compaction").
    """
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        if message.role != "assistant" or isinstance(message.content, str):
            continue
        for at in range(len(message.content) - 1, -1, -1):
            summary = message.content[at].content
            if message.content[at].type == "compaction" and isinstance(summary, str) and summary:
                behind = message.content[at + 1 :]
                shown = messages[: _leading(messages)]
                shown.append(Message("user", f"[what was said before, in short]\n{summary}"))
                shown += [Message("assistant", behind)] if behind else []
                shown += messages[number + 1 :]
                return shown, len(messages) - len(shown)
    return messages, 0


def _leading(messages: list[Message]) -> int:
    """How many system messages the conversation begins with."""
    return next((number for number, message in enumerate(messages) if message.role != "system"), len(messages))
