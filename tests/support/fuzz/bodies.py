"""JSON bodies: of the right words in wrong places, of each dialect."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec

from llmstack.llama_server.request_fields import lost_trigger, reach
from llmstack.protocol.clients import chat_request, gemini_request, responses_request
from llmstack.protocol.clients.asked import Asked, Stamp
from llmstack.protocol.clients.responses_store import ResponsesStore
from llmstack.protocol.dialect import Dialect
from llmstack.protocol.errors import Refused
from llmstack.protocol.request import Translator, decode

_KEYS = (
    "model",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "system",
    "tools",
    "name",
    "input_schema",
    "properties",
    "tool_use",
    "tool_result",
    "tool_use_id",
    "id",
    "input",
    "source",
    "data",
    "media_type",
    "thinking",
    "signature",
    "stream",
    "max_tokens",
    "temperature",
    "stop_sequences",
    "tool_choice",
    "metadata",
    "cache_control",
    "is_error",
    "tool_calls",
    "function",
    "arguments",
    "tool_call_id",
    "image_url",
    "url",
    "response_format",
    "json_schema",
    "schema",
    "contents",
    "parts",
    "functionCall",
    "functionResponse",
    "inlineData",
    "generationConfig",
    "functionDeclarations",
    "stop",
    "parallel_tool_calls",
    "reasoning_effort",
    "stream_options",
    "grammar",
    "grammar_lazy",
    "budget_tokens",
    "n",
)
_SCALARS = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    1e308,
    0.5,
    "",
    "x",
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "image",
    "tool_use",
    "tool_result",
    "document",
    "thinking",
    "auto",
    "any",
    "base64",
    "image/png",
    "iVBORw0KGgo=",
    "\ud7ff",
    "a" * 300,
    "data:image/png;base64,AAAA",
    "file:///etc/passwd",
    "application/pdf",
    "function",
    "enabled",
)


def value(dice: random.Random, depth: int) -> Any:
    kind = dice.random()
    if depth <= 0 or kind < 0.35:
        return dice.choice(_SCALARS)
    if kind < 0.65:
        return [value(dice, depth - 1) for _ in range(dice.randrange(4))]
    return {dice.choice(_KEYS): value(dice, depth - 1) for _ in range(dice.randrange(5))}


def items() -> dict[str, Any]:
    """A Responses request of the right shape, to be spoiled."""
    return {
        "model": "m",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "s"}]},
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "content": None},
            {"type": "function_call", "name": "Read", "namespace": "n", "arguments": "{}", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "custom_tool_call", "name": "patch", "input": "x", "call_id": "c2"},
            {"type": "web_search_call", "id": "w"},
        ],
        "tools": [
            {"type": "function", "name": "Read", "parameters": {"type": "object"}},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "Read", "parameters": {}}]},
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            {"type": "web_search"},
        ],
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "stream": True,
    }


def good(dice: random.Random, openai: bool) -> dict[str, Any]:
    """A request of the right shape, to be spoiled."""
    block = {"type": "text", "text": "hi"}
    use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/a"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [block]}
    tools = [{"name": "Read", "description": "d", "input_schema": {"type": "object", "properties": {"path": {}}}}]
    if not openai:
        turns = [
            {"role": "user", "content": [block]},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        return {"model": "m", "max_tokens": 9, "system": [block], "messages": turns, "tools": tools, "stream": True}
    call = {"id": "t1", "type": "function", "function": {"name": "Read", "arguments": '{"path": 1}'}}
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "x"},
    ]
    functions = [{"type": "function", "function": {"name": "Read", "parameters": {"type": "object"}}}]
    return {"model": "m", "messages": turns, "tools": functions, "stream": True}


def contents() -> dict[str, Any]:
    """A request of the Gemini API."""
    call = {"functionCall": {"name": "Read", "args": {"path": 1}, "id": "c1"}, "thoughtSignature": "llmstack:t1"}
    answer = {"functionResponse": {"name": "Read", "response": {"output": "x"}, "id": "c1"}}
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    schema = {"type": "OBJECT", "properties": {"path": {"type": "STRING", "nullable": True}}}
    return {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}, picture]},
            {"role": "model", "parts": [{"text": "hm", "thought": True}, call]},
            {"role": "user", "parts": [answer]},
        ],
        "tools": [{"functionDeclarations": [{"name": "Read", "description": "d", "parameters": schema}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["Read"]}},
        "generationConfig": {"temperature": 1, "topK": 3, "thinkingConfig": {"thinkingBudget": 5}, "stopSequences": []},
    }


def spoiled(dice: random.Random, whole: Any) -> Any:
    """The same with something else at some places."""
    if dice.random() < 0.08:
        return value(dice, 2)
    if isinstance(whole, dict):
        out = {name: spoiled(dice, inner) for name, inner in whole.items() if dice.random() > 0.03}
        if dice.random() < 0.1:
            out[dice.choice(_KEYS)] = value(dice, 2)
        return out
    return [spoiled(dice, inner) for inner in whole] if isinstance(whole, list) else whole


def one(seed: int) -> None:
    dice = random.Random(seed)
    dialect = dice.choice(("messages", "messages", "chat", "responses", "gemini"))
    whole = items() if dialect == "responses" else contents() if dialect == "gemini" else good(dice, dialect == "chat")
    body = value(dice, 4) if dice.random() < 0.2 else spoiled(dice, whole)
    data = json.dumps(body, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    if dice.random() < 0.1:
        at = dice.randrange(len(data))
        data = data[:at] + dice.choice((b"\xff", b"", b"\\u0000", b"NaN")) + data[at + 1 :]
    try:
        if dialect == "messages":
            _messages(data, dice)
        else:
            _others(_READERS[dialect](data))
    except Refused as refused:
        failure = refused.failure
        assert 400 <= failure.http_status < 600 and failure.message
        for written in (failure.to_openai(), failure.to_gemini(), failure.to_anthropic("req_1")):
            msgspec.json.decode(written)


def _messages(data: bytes, dice: random.Random) -> None:
    request = decode(data)
    dialect = Dialect(
        llama_server=dice.random() < 0.5,
        images=dice.choice(("pass", "checked", "placeholder", "refuse", "undecoded")),
        server_tools=dice.choice(("explain", "drop", "refuse")),
        thinking=dice.choice(("template", "effort", "effort-or-none", "none")),
        replay_reasoning=dice.random() < 0.5,
        stable_prefix=dice.random() < 0.5,
    )
    chat = Translator().to_chat(request, dialect, {})
    again = msgspec.json.decode(msgspec.json.encode(chat.body))
    assert isinstance(again["messages"], list)


STAMP = Stamp(1, str)
_READERS: dict[str, Callable[[bytes], Asked]] = {
    "chat": lambda data: chat_request.asked(data, STAMP),
    "responses": lambda data: responses_request.asked(data, STAMP, ResponsesStore()),
    "gemini": lambda data: gemini_request.asked(data, STAMP, model="m", stream=True),
}


def _others(found: Asked) -> None:
    if not lost_trigger(dict(found.extra)):
        msgspec.json.encode(reach(dict(found.extra))[0])
    assert found.body is not None
    msgspec.json.decode(msgspec.json.encode(found.body()))
    Translator().to_chat(found.request, Dialect(), {})
    found.side().whole({"content": [{"type": "text", "text": "x"}]})
