"""Streams as upstreams send them, and the message each must become.

The shapes are those of llama-server, OpenAI, vLLM, Ollama, OpenRouter, DeepSeek and Mistral; the texts are made up.
A case that answers somebody's complaint carries its number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

READ = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["path"],
}
BASH = {"type": "object", "properties": {"command": {"type": "string"}, "timeout": {"type": "number"}}}
TODO = {
    "type": "object",
    "properties": {
        "todos": {
            "type": "array",
            "items": {"type": "object", "properties": {"content": {"type": "string"}, "done": {"type": "boolean"}}},
        }
    },
}
SEARCH = {
    "type": "object",
    "properties": {
        "query": {"type": "string"},
        "allowed_domains": {"type": "array", "items": {"type": "string"}},
        "blocked_domains": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["query"],
}
TOOLS: dict[str, Any] = {"Read": READ, "Bash": BASH, "TodoWrite": TODO, "WebSearch": SEARCH, "Now": {"type": "object"}}

Block = tuple[str, Any] | tuple[str, str, Any]


@dataclass(frozen=True)
class Case:
    """blocks: ("text", s), ("thinking", s) or ("tool", name, input). error: a part of its message, instead of them."""

    name: str
    data: bytes
    blocks: tuple[Block, ...] = ()
    stop: str = "end_turn"
    sequence: str | None = None
    usage: tuple[int, int, int] | None = None  # input, cache_read, output
    error: str | None = None
    stops: tuple[str, ...] = ()
    tools: dict[str, Any] = field(default_factory=lambda: TOOLS)
    thinking: bool = True
    leaked: int = 0
    repaired: int = 0

    def __str__(self) -> str:
        return self.name


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def text(*pieces: str) -> bytes:
    return b"".join(delta(content=piece) for piece in pieces)


def think(*pieces: str) -> bytes:
    return b"".join(delta(reasoning_content=piece) for piece in pieces)


def tool(index: int | None, call_id: str | None, name: str | None, *arguments: Any) -> bytes:
    """The first piece with id and name, then the arguments as they come."""
    first: dict[str, Any] = {"type": "function", "function": {"arguments": ""}}
    if index is not None:
        first["index"] = index
    if call_id is not None:
        first["id"] = call_id
    if name is not None:
        first["function"]["name"] = name
    return delta(tool_calls=[first]) + b"".join(more(index, piece) for piece in arguments)


def more(index: int | None, arguments: Any, **fields: Any) -> bytes:
    piece: dict[str, Any] = {"function": {"arguments": arguments, **fields}}
    if index is not None:
        piece["index"] = index
    return delta(tool_calls=[piece])


def finish(reason: str = "stop", **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **fields}]})


def usage(prompt: int, output: int, cached: int | None = None) -> bytes:
    figures: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if cached is not None:
        figures["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": figures})


def _bash(command: str) -> str:
    """A call of Bash without its end."""
    return f"<function=Bash>\n<parameter=command>\n{command}\n</parameter>\n"


DONE = b"data: [DONE]\n\n"
ROLE = delta(role="assistant", content=None)
R1 = '{"path":"/a"}'

CASES: tuple[Case, ...] = (
    # ---- plain text ---------------------------------------------------------------------------------------
    Case("text in two pieces", ROLE + text("Hel", "lo") + finish() + DONE, (("text", "Hello"),)),
    Case("text without a role chunk", text("Hello") + finish() + DONE, (("text", "Hello"),)),
    Case("empty deltas open no block", ROLE + text("", "", "x", "") + finish() + DONE, (("text", "x"),)),
    Case("nothing at all is one empty text block", ROLE + finish() + DONE, (("text", ""),)),
    Case(
        "unicode, emoji and line separators",
        text("é漢", "😀", "a\u2028b\u0085c") + finish() + DONE,
        (("text", "é漢😀a\u2028b\u0085c"),),
    ),
    Case("leading and trailing blanks are kept", text("\n\n hi", " \n") + finish() + DONE, (("text", "\n\n hi \n"),)),
    Case("CRLF line ends", (ROLE + text("Hel", "lo") + finish() + DONE).replace(b"\n", b"\r\n"), (("text", "Hello"),)),
    Case("CR line ends", (ROLE + text("Hel", "lo") + finish() + DONE).replace(b"\n", b"\r"), (("text", "Hello"),)),
    Case(
        "comments between events", b": ping\n\n" + text("a") + b":\n\n" + text("b") + finish() + DONE, (("text", "ab"),)
    ),
    Case(
        "event and id fields",
        b"event: message\nid: 4\n" + text("a") + b"retry: 5\n" + finish() + DONE,
        (("text", "a"),),
    ),
    Case("no blank after the colon", (text("a") + finish()).replace(b"data: ", b"data:") + DONE, (("text", "a"),)),
    Case(
        "data over several lines",
        b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"a"}}]}\n\n' + finish() + DONE,
        (("text", "a"),),
    ),
    Case("a byte order mark first", b"\xef\xbb\xbf" + text("a") + finish() + DONE, (("text", "a"),)),
    Case("closed without [DONE]", text("a") + finish(), (("text", "a"),)),
    Case("the last blank line is missing", (text("a") + finish()).rstrip(b"\n"), (("text", "a"),)),
    Case("finish in the same chunk as text", text("a") + delta("stop", content="b") + DONE, (("text", "ab"),)),
    Case(
        "a second choice is ignored",
        text("a") + event({"choices": [{"index": 1, "delta": {"content": "zzz"}}]}) + finish() + DONE,
        (("text", "a"),),
    ),
    Case(
        "a refusal is text, and the stop reason says so",
        delta(refusal="I can't.") + finish() + DONE,
        (("text", "I can't."),),
        stop="refusal",
    ),
    Case(
        "content as a list of parts", delta(content=[{"type": "text", "text": "a"}]) + finish() + DONE, (("text", "a"),)
    ),
    Case(
        "thinking and text as parts",
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}])
        + delta(content=[{"type": "text", "text": "a"}])
        + finish()
        + DONE,
        (("thinking", "t"), ("text", "a")),
    ),
    Case(
        "unknown fields everywhere",
        event({"x": [1], "choices": [{"index": 0, "logprobs": None, "delta": {"content": "a", "y": {}}}]})
        + finish()
        + DONE,
        (("text", "a"),),
    ),
    # ---- thinking -----------------------------------------------------------------------------------------
    Case(
        "thinking then text",
        think("let ", "me") + text("ok") + finish() + DONE,
        (("thinking", "let me"), ("text", "ok")),
    ),
    Case(
        "reasoning, as OpenRouter calls it",
        delta(reasoning="hm") + text("ok") + finish() + DONE,
        (("thinking", "hm"), ("text", "ok")),
    ),
    Case(
        "litellm#32357 thinking after text opens its own block",
        text("a") + think("b") + text("c") + finish() + DONE,
        (("text", "a"), ("thinking", "b"), ("text", "c")),
    ),
    Case(
        "thinking inline in the text",
        text("<thi", "nk>hm", "m</th", "ink>\n\nok") + finish() + DONE,
        (("thinking", "hmm"), ("text", "ok")),
    ),
    Case(
        "thinking that was switched off is not shown",
        think("no") + text("ok") + finish() + DONE,
        (("text", "ok"),),
        thinking=False,
    ),
    Case(
        "only thinking, cut by the limit", think("a") + finish("length") + DONE, (("thinking", "a"),), stop="max_tokens"
    ),
    Case(
        "a think tag in the middle stays text",
        text("use ", "<think>", "x") + finish() + DONE,
        (("text", "use <think>x"),),
    ),
    Case(
        "thinking, then a tool",
        think("t") + tool(0, "call_123456789", "Read", R1) + finish("tool_calls") + DONE,
        (("thinking", "t"), ("tool", "Read", {"path": "/a"})),
        stop="tool_use",
    ),
    # ---- tools --------------------------------------------------------------------------------------------
    Case(
        "a tool call in small pieces",
        tool(0, "call_1", "Read", '{"pa', 'th":"', "/a", '"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "a tool call in one chunk",
        delta(tool_calls=[{"index": 0, "id": "x", "function": {"name": "Read", "arguments": R1}}])
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "arguments as an object",
        delta(tool_calls=[{"index": 0, "id": "x", "function": {"name": "Read", "arguments": {"path": "/a"}}}])
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "a tool without arguments",
        tool(0, "c", "Now") + finish("tool_calls") + DONE,
        (("tool", "Now", {}),),
        stop="tool_use",
    ),
    Case(
        "two tools, one after the other",
        tool(0, "a", "Read", R1) + tool(1, "b", "Bash", '{"command":"ls"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Bash", {"command": "ls"})),
        stop="tool_use",
    ),
    Case(
        "two tools, interleaved",
        tool(0, "a", "Read", '{"path"')
        + tool(1, "b", "Bash", '{"comm')
        + more(0, ':"/a"}')
        + more(1, 'and":"ls"}')
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Bash", {"command": "ls"})),
        stop="tool_use",
    ),
    Case(
        "three tools, the first one slow",
        tool(0, "a", "Read", '{"path"')
        + tool(1, "b", "Now")
        + tool(2, "c", "Bash", '{"command":"ls"}')
        + more(0, ':"/a"}')
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Now", {}), ("tool", "Bash", {"command": "ls"})),
        stop="tool_use",
    ),
    Case(
        "every call has index 0, ids differ",
        tool(0, "a", "Read", R1) + tool(0, "b", "Read", '{"path":"/b"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Read", {"path": "/b"})),
        stop="tool_use",
    ),
    Case(
        "calls without index",
        delta(
            tool_calls=[
                {"id": "a", "function": {"name": "Read", "arguments": R1}},
                {"id": "b", "function": {"name": "Now", "arguments": "{}"}},
            ]
        )
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Now", {})),
        stop="tool_use",
    ),
    Case(
        "calls without index and id",
        delta(tool_calls=[{"function": {"name": "Read", "arguments": R1}}])
        + delta(tool_calls=[{"function": {"name": "Read", "arguments": '{"path":"/b"}'}}])
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Read", {"path": "/b"})),
        stop="tool_use",
    ),
    Case(
        "the id is repeated in each piece",
        tool(0, "a", "Read")
        + delta(tool_calls=[{"index": 0, "id": "a", "function": {"arguments": '{"path":'}}])
        + delta(tool_calls=[{"index": 0, "id": "a", "function": {"arguments": '"/a"}'}}])
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "the name is repeated in each piece",
        tool(0, "a", "Read")
        + more(0, '{"path":', name="Read")
        + more(0, '"/a"}', name="Read")
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "the same id twice in one answer",
        tool(0, "call_same_id_1", "Read", R1) + tool(1, "call_same_id_1", "Now") + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Now", {})),
        stop="tool_use",
    ),
    Case(
        "litellm#34692 a tool turn that says stop",
        tool(0, "a", "Read", R1) + finish("stop") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "a call that max_tokens cut is no tool turn",
        tool(0, "a", "Read", '{"path": "/a') + finish("length") + DONE,
        (("tool", "Read", {"__unparsedToolInput": {"raw": '{"path": "/a', "len": 12}}),),
        stop="max_tokens",
    ),
    Case(
        "nor is one behind which max_tokens cut",
        tool(0, "a", "Read", R1) + finish("length") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="max_tokens",
    ),
    Case(
        "a filter ends a tool turn",
        tool(0, "a", "Read", R1) + finish("content_filter") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="refusal",
    ),
    Case(
        "a stop word inside a call",
        tool(0, "a", "Read", '{"path": "/a') + finish("tool_calls", stop_reason="STOP") + DONE,
        (("tool", "Read", {"__unparsedToolInput": {"raw": '{"path": "/a', "len": 12}}),),
        stop="stop_sequence",
        sequence="STOP",
        stops=("STOP",),
    ),
    Case(
        "a stop word behind a whole call",
        tool(0, "a", "Read", R1) + finish("stop", stop_reason="STOP") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        stops=("STOP",),
    ),
    Case(
        "two calls with one id and one index",
        tool(0, "call_same_id_2", "Read", R1)
        + delta(
            tool_calls=[{"index": 0, "id": "call_same_id_2", "function": {"name": "Read", "arguments": '{"path":'}}]
        )
        + more(0, '"/b"}')
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}), ("tool", "Read", {"path": "/b"})),
        stop="tool_use",
    ),
    Case(
        "a call that is sent twice is one call",
        delta(tool_calls=[{"index": 0, "id": "call_again_1", "function": {"name": "Read", "arguments": R1}}]) * 2
        + finish("tool_calls")
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "counts with a decimal point, and members of a wrong type beside them",
        event({"choices": [{"index": None, "delta": {"content": "a", "role": 7}, "finish_reason": None}], "id": 3})
        + event({"choices": [{"index": "0", "delta": {"tool_calls": {}}, "finish_reason": "stop"}]})
        + event(
            {"usage": {"prompt_tokens": 9.0, "completion_tokens": "2", "prompt_tokens_details": {"cached_tokens": 3.0}}}
        )
        + DONE,
        (("text", "a"),),
        usage=(6, 3, 2),
    ),
    Case(
        "what was written to the cache is no plain input",
        text("a")
        + finish()
        + event(
            {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 4}}}
        )
        + DONE,
        (("text", "a"),),
        usage=(5, 0, 1),
    ),
    Case(
        "the cache by Anthropic's name",
        text("a")
        + finish()
        + event({"usage": {"prompt_tokens": 9, "cache_read_input_tokens": 4, "completion_tokens": 1}}),
        (("text", "a"),),
        usage=(5, 4, 1),
    ),
    Case("an upstream that counts nothing", text("a" * 36) + finish() + DONE, (("text", "a" * 36),), usage=(0, 0, 10)),
    Case(
        "text before a tool",
        text("I'll read.") + tool(0, "a", "Read", R1) + finish("tool_calls") + DONE,
        (("text", "I'll read."), ("tool", "Read", {"path": "/a"})),
        stop="tool_use",
    ),
    Case(
        "litellm#13373 text after a tool opens a new block",
        tool(0, "a", "Read", R1) + text("done") + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}), ("text", "done")),
        stop="tool_use",
    ),
    Case(
        "text between the pieces of a call comes after it",
        tool(0, "a", "Read", '{"path"') + text("hm") + more(0, ':"/a"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}), ("text", "hm")),
        stop="tool_use",
    ),
    Case(
        "an unknown tool passes",
        tool(0, "a", "Nope", '{"x":1}') + finish("tool_calls") + DONE,
        (("tool", "Nope", {"x": 1}),),
        stop="tool_use",
    ),
    Case(
        "a tool name in the wrong case",
        tool(0, "a", "read", R1) + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
    ),
    Case(
        "key order and unicode of arguments are kept",
        tool(0, "a", "Nope", '{"z":"é","a":"漢"}') + finish("tool_calls") + DONE,
        (("tool", "Nope", {"z": "é", "a": "漢"}),),
        stop="tool_use",
    ),
    Case(
        "finish says tool_calls but there are none",
        text("a") + finish("tool_calls") + DONE,
        (("text", "a"),),
        stop="end_turn",
    ),
    # ---- arguments put right --------------------------------------------------------------------------------
    Case(
        "claude-code-router#448 an array in quotes",
        tool(0, "a", "TodoWrite", '{"todos":"[{\\"content\\":', '\\"x\\",\\"done\\":true}]"}')
        + finish("tool_calls")
        + DONE,
        (("tool", "TodoWrite", {"todos": [{"content": "x", "done": True}]}),),
        stop="tool_use",
        repaired=1,
    ),
    Case(
        "a number in quotes",
        tool(0, "a", "Bash", '{"command":"ls","timeout":"50', '00"}') + finish("tool_calls") + DONE,
        (("tool", "Bash", {"command": "ls", "timeout": 5000}),),
        stop="tool_use",
        repaired=1,
    ),
    Case(
        "an integer in quotes that is none stays",
        tool(0, "a", "Read", '{"path":"/a","limit":"ten"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a", "limit": "ten"}),),
        stop="tool_use",
    ),
    Case(
        "a boolean in quotes inside an array",
        tool(0, "a", "TodoWrite", '{"todos":[{"content":"x","done":"true"}]}') + finish("tool_calls") + DONE,
        (("tool", "TodoWrite", {"todos": [{"content": "x", "done": True}]}),),
        stop="tool_use",
        repaired=1,
    ),
    Case(
        "empty arrays that exclude each other",
        tool(0, "a", "WebSearch", '{"allowed_domains":[],"query":"q","blocked_domains":["x.org"]}')
        + finish("tool_calls")
        + DONE,
        (("tool", "WebSearch", {"query": "q", "blocked_domains": ["x.org"]}),),
        stop="tool_use",
        repaired=1,
    ),
    Case(
        "whole arguments in quotes",
        tool(0, "a", "Read", '"{\\"path\\":\\"/a\\"}"') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        repaired=1,
    ),
    Case(
        "a string that looks like a number stays a string",
        tool(0, "a", "Read", '{"path":"42"}') + finish("tool_calls") + DONE,
        (("tool", "Read", {"path": "42"}),),
        stop="tool_use",
    ),
    # ---- calls that leaked into text --------------------------------------------------------------------------
    Case(
        "ollama#15529 a call printed as text",
        text("<tool", "_call>\n", '{"name": "Read", "arguments": ', '{"path": "/a"}}\n</tool', "_call>")
        + finish()
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "text, then two leaked calls",
        text(
            'Now:\n<tool_call>{"name":"Read","arguments":{"path":"/a"}}</tool_call>\n<tool_call>{"name":"Now","arguments":{}}</tool_call>'
        )
        + finish()
        + DONE,
        (("text", "Now:\n"), ("tool", "Read", {"path": "/a"}), ("tool", "Now", {})),
        stop="tool_use",
        leaked=2,
    ),
    Case(
        "Qwen3-Coder's XML",
        text(
            "<tool_call>\n<function=Bash>\n<parameter=command>\nls -la\n</parameter>\n"
            "<parameter=timeout>\n5000\n</parameter>\n</function>\n</tool_call>"
        )
        + finish()
        + DONE,
        (("tool", "Bash", {"command": "ls -la", "timeout": 5000}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "Qwen3-Coder's XML without its opening tag",
        text("ok\n<func", "tion=Read>\n<parameter=path>\n/a\n</parameter>\n</function>\n</tool_call>")
        + finish()
        + DONE,
        (("text", "ok\n"), ("tool", "Read", {"path": "/a"})),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "llama.cpp#24807 a closing tag twice",
        text("<tool_call><function=Read><parameter=path>/a</parameter></parameter></function></tool_call>")
        + finish()
        + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "a parameter that speaks of tags",
        text("<tool_call><function=Bash><parameter=command>echo '</tool_call>'</parameter></function></tool_call>")
        + finish()
        + DONE,
        (("tool", "Bash", {"command": "echo '</tool_call>'"}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "two functions in one tool_call are two calls",
        text(f"<tool_call>\n{_bash('echo one')}</function>\n{_bash('rm -r build')}</function>\n</tool_call>")
        + finish(),
        (("tool", "Bash", {"command": "echo one"}), ("tool", "Bash", {"command": "rm -r build"})),
        stop="tool_use",
        leaked=2,
    ),
    Case(
        "a tool_call that was not closed before the next",
        text(f"<tool_call>\n{_bash('echo one')}</function>\n<tool_call>\n{_bash('ls')}</function>\n</tool_call>")
        + finish(),
        (("tool", "Bash", {"command": "echo one"}), ("tool", "Bash", {"command": "ls"})),
        stop="tool_use",
        leaked=2,
    ),
    Case(
        "two objects in one tool_call are two calls",
        text('<tool_call>\n{"name":"Read","arguments":{"path":"/a"}}\n{"name":"Now","arguments":{}}\n</tool_call>')
        + finish(),
        (("tool", "Read", {"path": "/a"}), ("tool", "Now", {})),
        stop="tool_use",
        leaked=2,
    ),
    Case(
        "a list of calls in one tool_call",
        text('<tool_call>[{"name":"Read","arguments":{"path":"/a"}},{"name":"Now","arguments":{}}]</tool_call>')
        + finish(),
        (("tool", "Read", {"path": "/a"}), ("tool", "Now", {})),
        stop="tool_use",
        leaked=2,
    ),
    Case(
        "a call with the beginning of another in it is text",
        text(unclosed := f"<tool_call>\n{_bash('echo one')}<tool_call>\n{_bash('ls')}</function>\n</tool_call>")
        + finish(),
        (("text", unclosed),),
    ),
    Case(
        "nor is one of two calls made when the other cannot be read",
        text(half := f"<tool_call>\n{_bash('echo one')}</function>\n<function=Nope>\n</function>\n</tool_call>")
        + finish(),
        (("text", half),),
    ),
    Case(
        "what stands behind a function inside its tool_call makes it text",
        text(junk := f"<tool_call>\n{_bash('echo one')}</function> or so </function></tool_call>") + finish(),
        (("text", junk),),
    ),
    Case(
        "a bare object",
        text('{"name": "Read", "argu', 'ments": {"path": "/a"}}') + finish() + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "a leaked call without its end",
        text('<tool_call>{"name":"Read","arguments":{"path":"/a"}}') + finish() + DONE,
        (("tool", "Read", {"path": "/a"}),),
        stop="tool_use",
        leaked=1,
    ),
    Case(
        "half a leaked call is text",
        text("<tool_call><function=Bash><parameter=command>rm -rf /tmp/x") + finish("length") + DONE,
        (("text", "<tool_call><function=Bash><parameter=command>rm -rf /tmp/x"),),
        stop="max_tokens",
    ),
    Case(
        "a call in a code fence is text",
        text('Like so:\n```\n<tool_call>{"name":"Read","arguments":{}}</tool_call>\n```\n') + finish() + DONE,
        (("text", 'Like so:\n```\n<tool_call>{"name":"Read","arguments":{}}</tool_call>\n```\n'),),
    ),
    Case(
        "a tag in backticks is text",
        text("write `", "<tool_call>` here") + finish() + DONE,
        (("text", "write `<tool_call>` here"),),
    ),
    Case(
        "a leaked call of no known tool is text",
        text('<tool_call>{"name":"Nope","arguments":{}}</tool_call>!') + finish() + DONE,
        (("text", '<tool_call>{"name":"Nope","arguments":{}}</tool_call>!'),),
    ),
    Case(
        "an object that is no call is text", text('{"answer"', ": 42}") + finish() + DONE, (("text", '{"answer": 42}'),)
    ),
    Case(
        "angle brackets are text",
        text("a <", "b> </c> <tool> x<y") + finish() + DONE,
        (("text", "a <b> </c> <tool> x<y"),),
    ),
    Case(
        "without tools nothing is recovered",
        text('<tool_call>{"name":"Read","arguments":{}}</tool_call>') + finish() + DONE,
        (("text", '<tool_call>{"name":"Read","arguments":{}}</tool_call>'),),
        tools={},
    ),
    # ---- how it ends ------------------------------------------------------------------------------------------
    Case("the limit", text("a") + finish("length") + DONE, (("text", "a"),), stop="max_tokens"),
    Case("a content filter", text("a") + finish("content_filter") + DONE, (("text", "a"),), stop="refusal"),
    Case(
        "a stop word by llama-server",
        text("a")
        + event(
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "__verbose": {"stop_type": "word", "stopping_word": "END"},
            }
        )
        + DONE,
        (("text", "a"),),
        stop="stop_sequence",
        sequence="END",
        stops=("END",),
    ),
    Case(
        "a stop word by vLLM",
        text("a") + finish("stop", stop_reason="END") + DONE,
        (("text", "a"),),
        stop="stop_sequence",
        sequence="END",
        stops=("END", "X"),
    ),
    Case(
        "the end of turn with stop words asked for",
        text("a")
        + event(
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "__verbose": {"stop_type": "eos", "stopping_word": ""},
            }
        )
        + DONE,
        (("text", "a"),),
        stops=("END",),
    ),
    Case("usage after finish", text("a") + finish() + usage(100, 7, 60) + DONE, (("text", "a"),), usage=(40, 60, 7)),
    Case(
        "usage from timings",
        text("a")
        + event(
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "timings": {"cache_n": 90, "prompt_n": 10, "predicted_n": 3},
            }
        )
        + DONE,
        (("text", "a"),),
        usage=(10, 90, 3),
    ),
    Case(
        "usage and timings agree on the cache",
        text("a")
        + finish()
        + event(
            {
                "choices": [],
                "usage": {"prompt_tokens": 100, "completion_tokens": 7},
                "timings": {"cache_n": 75, "prompt_n": 25},
            }
        )
        + DONE,
        (("text", "a"),),
        usage=(25, 75, 7),
    ),
    Case(
        "prefill progress shows nothing",
        event(
            {
                "choices": [{"index": 0, "delta": {}}],
                "prompt_progress": {"total": 10, "cache": 0, "processed": 5, "time_ms": 3},
            }
        )
        + text("a")
        + finish()
        + DONE,
        (("text", "a"),),
    ),
    # ---- failures ---------------------------------------------------------------------------------------------
    Case("closed before finish", text("half an ans"), (), error="before it was complete"),
    Case("closed in a tool call", tool(0, "a", "Read", '{"pa'), (), error="before it was complete"),
    Case("[DONE] without finish", text("a") + DONE, (), error="before it was complete"),
    Case(
        "an error in the stream",
        text("a") + event({"error": {"code": 500, "message": "slot lost", "type": "server_error"}}),
        (),
        error="slot lost",
    ),
    Case("an error as a string", text("a") + event({"error": "out of memory"}), (), error="out of memory"),
    Case(
        "omlx#26 overflow in the stream has the words that compact",
        text("a")
        + event(
            {
                "error": {
                    "code": 400,
                    "type": "exceed_context_size_error",
                    "message": "too big",
                    "n_prompt_tokens": 9001,
                    "n_ctx": 8192,
                }
            }
        ),
        (),
        error="prompt is too long: 9001 tokens > 8192 maximum",
    ),
    Case("an event that is no JSON", text("a") + b"data: {oops\n\n" + finish() + DONE, (), error="no chat chunk"),
    Case(
        "an event of the wrong shape",
        text("a") + b'data: {"choices": 7}\n\n' + finish() + DONE,
        (),
        error="no chat chunk",
    ),
    Case(
        "an event that is not UTF-8",
        text("a") + b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n' + finish() + DONE,
        (),
        error="no chat chunk",
    ),
)
