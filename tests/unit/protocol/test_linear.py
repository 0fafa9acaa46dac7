"""Every pass over text from outside is linear in its size: four times the input, about four times the CPU time.

A row is an input that stopped the event loop for seconds when it was read again at each delta, or a sibling of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from llmstack.protocol import chat, sse
from llmstack.protocol.anthropic import Tool
from llmstack.protocol.errors import from_upstream
from llmstack.protocol.inline_tool_calls import InlineToolCallParser
from llmstack.protocol.json_text import JsonPieces
from llmstack.protocol.limits import most
from llmstack.protocol.repair import ArgumentStream
from llmstack.protocol.request import Dialect, Translator, decode
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.volatile_lines import split
from llmstack.protocol.web.calls import WebCall, WebKind, page_wish, query_of
from llmstack.protocol.web.domains import domain_rules
from llmstack.protocol.web.refusal import WebRefused
from support.linear import assert_linear

TOOLS: dict[str, Any] = {
    "t": {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}}, "b": {"type": "string"}},
    }
}

LEAKS: dict[str, Callable[[int], str]] = {
    "closings of one parameter": lambda n: "<function=t><parameter=a>" + "</parameter>" * n,
    "closings with text between": lambda n: "<function=t><parameter=a>" + "</parameter>x" * n + "</function>",
    "parameters that are cut off": lambda n: "<function=t><parameter=a>" * n + "</function>",
    "closings with blanks": lambda n: "<function=t><parameter=a>" + "</parameter> \n" * n + "x</function>",
    "open calls": lambda n: "<tool_call>{" * n + "</tool_call>",
    "open calls without an end": lambda n: "<tool_call>{" * n,
    "open functions": lambda n: "<tool_call><function=t>" * n,
    "calls of nothing": lambda n: "<tool_call>" * n,
    "functions nobody knows": lambda n: "<function=x>" * n,
    "ends of functions": lambda n: "<tool_call><function=t>" + "</function> " * n,
    "ends of functions that are no ends": lambda n: "<tool_call><function=t>" + "</function>" + " " * n,
    "closings behind a call": lambda n: '<tool_call>{"name":"t","arguments":{}}' + "</tool_call>\n" * n,
    "blanks behind a call": lambda n: '<tool_call>{"name":"t","arguments":{}}</tool_call>' + " " * n,
    "a bare object": lambda n: '{"name":"t","arguments":{"b":"' + "}" * n,
    "a bare object of braces": lambda n: '{"name":' + "{}" * n,
    "blanks before anything": lambda n: " " * n + '{"name":"t"}',
    "a bare object's blanks": lambda n: "{" + " " * n + '"name":"t"}',
    "thinking": lambda n: "<think>" + "<" * n + "</think>x",
    "fences": lambda n: "x" + "```" * n,
    "backticks before marks": lambda n: "x" + "`<tool_call>" * n,
}


@pytest.mark.parametrize("size", [7, 1 << 20], ids=["in deltas", "in one piece"])
@pytest.mark.parametrize("name", LEAKS)
def test_a_models_text_is_read_once(name: str, size: int) -> None:
    def read(text: str) -> None:
        parser = InlineToolCallParser(TOOLS)
        for start in range(0, len(text), size):
            parser.receive(text[start : start + size])
        parser.end()

    assert_linear(LEAKS[name], read, 1500)


ARGUMENTS: dict[str, Callable[[int], str]] = {
    "a long string": lambda n: '{"b":"' + "x" * n,
    "a list that is watched": lambda n: '{"a":[' + "1," * n,
    "blanks before a member": lambda n: "{" + " ," * n + '"b":1}',
    "blanks before a value": lambda n: '{"b"' + " :" * n,
    "a long key": lambda n: '{"' + "k" * n,
    "an object in quotes": lambda n: '"{' + "x" * n,
    "many members": lambda n: "{" + '"b":1,' * n,
}


@pytest.mark.parametrize("size", [5, 1 << 20], ids=["in deltas", "in one piece"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_read_once(name: str, size: int) -> None:
    def read(text: str) -> None:
        stream, pieces = ArgumentStream(TOOLS["t"]), JsonPieces()
        for start in range(0, len(text), size):
            stream.receive(text[start : start + size])
            pieces.add(text[start : start + size])
            pieces.whole()
        stream.end()

    assert_linear(ARGUMENTS[name], read, 3000)


def _chunk(**delta: Any) -> chat.ChatChunk:
    return chat.decode(json.dumps({"choices": [{"delta": delta}]}).encode())


STREAMS: dict[str, Callable[[int], list[chat.ChatChunk]]] = {
    "text beside a call that is open": lambda n: [
        _chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "t", "arguments": '{"b":"'}}]),
        *[_chunk(content="w", tool_calls=[{"index": 0, "function": {"arguments": "xxxxxxxx"}}]) for _ in range(n)],
    ],
    "pieces of a second call": lambda n: [
        _chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "t", "arguments": '{"b":"' + "x" * n}}]),
        *[_chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "t", "arguments": "{"}}]) for _ in range(n)],
    ],
    "a name again with each piece": lambda n: [
        _chunk(tool_calls=[{"index": 0, "function": {"name": "t", "arguments": '{"b":"' if not k else "xxxxxxxx"}}])
        for k in range(n)
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_once(name: str) -> None:
    def read(chunks: list[chat.ChatChunk]) -> None:
        stream = MessageStream(StreamSettings("m", "msg_1", lambda upstream_id: "toolu_1", tools=TOOLS))
        for chunk in chunks:
            stream.receive(chunk)

    assert_linear(STREAMS[name], read, 500)


def test_one_event_in_many_pieces_is_looked_at_once() -> None:
    def read(data: bytes) -> None:
        decoder = sse.SSEDecoder(1 << 30)
        for start in range(0, len(data), 64):
            decoder.receive_data(data[start : start + 64])
        assert decoder.receive_data(b"\n\n")

    assert_linear(lambda n: b"data: " + b"x" * n, read, 200_000)


def _results_backwards(n: int) -> list[dict[str, Any]]:
    return [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": f"c{k}", "name": "t", "input": {}} for k in range(n)],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": f"c{k}", "content": "r"} for k in reversed(range(n))],
        },
    ]


def _system_behind_a_result(n: int) -> list[dict[str, Any]]:
    return [*_results_backwards(1), *[{"role": "system", "content": "s" * 50}] * n]


REQUESTS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "results in reverse order": _results_backwards,
    "results of nothing": lambda n: [
        *_results_backwards(n)[:1],
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "r"}] * n},
    ],
    "system messages first": lambda n: (
        [{"role": "system", "content": "s" * 50}] * n + [{"role": "user", "content": "u"}]
    ),
    "system messages behind a result": _system_behind_a_result,
    "assistant messages in a row": lambda n: [{"role": "assistant", "content": "a" * 50}] * n,
    "user messages in a row": lambda n: [{"role": "user", "content": "u"}] * n,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_translated_in_one_pass(name: str) -> None:
    def read(body: bytes) -> None:
        Translator().to_chat(decode(body), Dialect())

    def make(n: int) -> bytes:
        return json.dumps({"model": "m", "max_tokens": 1, "messages": REQUESTS[name](n)}).encode()

    assert_linear(make, read, 1500, most("messages"))


def test_an_upstreams_error_is_searched_in_a_bounded_part() -> None:
    def read(text: str) -> None:
        for _ in range(20):
            from_upstream(400, {"error": {"message": text}}, name="local")

    assert_linear(lambda n: "maximum context length is 1 tokens " * n, read, 4000)


def test_a_system_text_is_split_in_one_pass() -> None:
    assert_linear(lambda n: "x-working: =/a" * n + "\n" + "(/" + "(" * n, split, 4000)


WEB: dict[str, Callable[[int], str]] = {
    "brackets behind an address": lambda n: "https://a.example/" + ")" * n,
    "addresses": lambda n: "https://a.example/)) " * n,
    "characters nobody sees": lambda n: "\u202e" * n,
    "claude code's words": lambda n: "Perform a web search for the query: " * n,
}


@pytest.mark.parametrize("name", WEB)
def test_the_text_of_a_side_call_is_looked_at_in_a_bounded_part(name: str) -> None:
    def read(text: str) -> None:
        call = WebCall(WebKind.FETCH, "web_fetch", Tool(name="web_fetch", type="web_fetch_20250910"), text)
        for look in (query_of, page_wish):
            with suppress(WebRefused):
                look(call)

    assert_linear(WEB[name], read, 20_000)


def test_an_entry_of_a_list_of_domains_is_read_once() -> None:
    rules = domain_rules(None, [f"host{n}.example/a/*/{'b' * 200}" for n in range(200)])
    assert_linear(lambda n: [f"https://host7.example/a/{'b' * 150}{k}" for k in range(n)], lambda urls: [
        rules.permit(url) for url in urls
    ], 20)  # fmt: skip
