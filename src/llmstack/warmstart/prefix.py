"""The part of a prompt that all conversations of a client share: the system text and the tools.

A model with a recurrent state can use a saved one only at exactly its end, so the boundary is found in tokens, as the
model's own template and tokenizer make them: requests that differ in the user's words only are rendered, and what
their tokens have in common is the prefix. The words begin with a letter, a blank, a line break and a bracket, because
a tokenizer may join the first character of the next text to what stands before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

MIN_BYTES = 4096  # a shorter system text with its tools is not worth a file
MIN_TOKENS = 256
SHORT_BYTES = 8192  # some 2,000 tokens
SETTINGS = ("tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs", "reasoning_effort")
_WORDS = ("a", " b", "\nc", "<d>")

Body = dict[str, Any]


def part_of(body: Body) -> Body:
    """The request without its conversation: system message, tools, and what templates are given besides."""
    settings = {name: body[name] for name in SETTINGS if name in body}
    messages = body.get("messages") or []
    return {"messages": messages[:1] if messages and messages[0].get("role") == "system" else [], **settings}


def prompt_of(body: Body) -> Body:
    """What of a request decides its prompt: the messages, and what `part_of` names besides."""
    return {name: body[name] for name in ("messages", *SETTINGS) if name in body}


def key_of(body: Body) -> str:
    """Equal for two requests with the same prefix."""
    return hashlib.blake2b(msgspec.json.encode(part_of(body)), digest_size=16).hexdigest()


def opening_of(body: Body) -> str:
    """A name for the conversation of a client that sends none: its first message behind the system text."""
    messages = body.get("messages") or []
    opening = messages[len(part_of(body)["messages"]) :][:1]
    return hashlib.blake2b(msgspec.json.encode(opening), digest_size=8).hexdigest()


def begins(body: Body) -> bool:
    """Whether this is the first request of a conversation, with a first message that is soon read."""
    messages = (body.get("messages") or [])[len(part_of(body)["messages"]) :]
    return len(messages) == 1 and len(msgspec.json.encode(messages)) < SHORT_BYTES


def size_of(body: Body) -> int:
    """Bytes of system text and tools."""
    part = part_of(body)
    system = part["messages"][0].get("content") if part["messages"] else ""
    tools = part.get("tools")
    return len(system.encode() if isinstance(system, str) else b"") + (
        len(bytes(tools)) if isinstance(tools, msgspec.Raw) else len(msgspec.json.encode(tools)) if tools else 0
    )


def probes(body: Body) -> list[Body]:
    """Requests with this prefix and nothing else in common."""
    part = part_of(body)
    return [{**part, "messages": [*part["messages"], {"role": "user", "content": words}]} for words in _WORDS]


def common(sequences: Sequence[Sequence[int]]) -> int:
    """How many elements all sequences begin with in common."""
    first, *rest = sequences
    shared = len(first)
    for other in rest:
        shared = common_length(first[:shared], other)
    return shared


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning, by halves: comparing slices is fast, element by element is not."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def reusable(saved: Sequence[int], prompt: Sequence[int], *, rolls_back: bool) -> int:
    """Tokens of `prompt` that a slot holding `saved` need not compute.

    At least one token is always computed (server-context.cpp: [TAG_PROMPT_LOGITS]). A state that cannot be rolled back
    counts whole or not.
    """
    shared = min(common_length(saved, prompt), len(prompt) - 1)
    if not rolls_back and shared < len(saved):
        return 0
    return max(shared, 0)
