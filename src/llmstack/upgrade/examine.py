"""The questions, put to one engine in a trial of its own: what it did, and how fast."""

from __future__ import annotations

import re
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmstack.bench.depths import Effort, measure
from llmstack.bench.sample import Pace, Sampler
from llmstack.judge import Metric
from llmstack.upgrade.messages import Reply, Talk
from llmstack.upgrade.toolset import EXACT, HARD, LARGE_BYTES, Tool, Toolset, hard_tool, large
from llmstack.upgrade.trial import TrialStack

EFFORT = Effort(repeats=5, decode_tokens=48, seconds=30.0)
LARGE_PATIENCE_S = 120.0  # a grammar is refused at once; reading so long a prompt may take minutes
TEXT_TOKENS = 48
PATIENCE_S = 8.0  # of one measurement, for a machine that others use
_LEAKED = re.compile(r"<tool_call|<function=|\[TOOL_CALLS\]|<\|tool_call|<\|python_tag\|>")
_ROOM = 1024  # tokens left for the answer

PROMPTS = (
    "Say in one sentence what a hash table is.",
    "Write a function in Python that reverses a list in place. Code only.",
    "Which is larger, 9.9 or 9.11? Answer with the number alone.",
    "Translate into German: the build failed because a file was missing.",
)
_FREE = (
    ("read a file", "Use your tool to read the file /etc/hostname. Do not answer before you have read it."),
    ("run a command", "Run the command `uname -a` with your tool and tell me what it prints."),
)
_TURNS = (
    "The tests fail since the last change to the parser. What would you look at first, and why? Be brief.",
    "The error says: unexpected end of input in line 40. What now?",
    "It passes now. Sum up in one sentence what was wrong.",
)


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """One question. ok: it came back as it should. why: what was wrong."""

    name: str
    ok: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reuse:
    """Tokens of a turn's prompt, of which `cached` were not computed; before: tokens of the prompt it goes on from."""

    before: int
    prompt: int
    cached: int


@dataclass(slots=True)
class Examination:
    """What one engine did. speeds: by the names that the bench's history keeps. chunk: tokens of one prefill."""

    engine: str
    loaded_s: float = 0.0
    exact: list[QuestionResult] = field(default_factory=list)
    forced: list[QuestionResult] = field(default_factory=list)
    free: list[QuestionResult] = field(default_factory=list)
    large: QuestionResult | None = None
    large_bytes: int = 0
    hard: list[QuestionResult] = field(default_factory=list)
    streams: list[QuestionResult] = field(default_factory=list)
    second_turn: Reuse | None = None
    saved: int = 0
    restored: Reuse | None = None
    texts: list[str] = field(default_factory=list)
    speeds: dict[str, Metric] = field(default_factory=dict)
    chunk: int = 0


OnStep = Callable[[str], None]


def examine(
    running: TrialStack, tools: Toolset, pace: Pace | None, step: OnStep, chunk: int | None = None
) -> Examination:
    """Everything, in an order that reads the client's tools once. chunk: tokens of one prefill, as another examination
    read them. Raises NotSo when the engine or the proxy ends on the way."""
    seen = Examination(running.record.server.engine, running.loaded_s)
    talk = Talk(running)
    speeds(running, seen, pace, step, chunk)
    step("forced tool calls")
    seen.exact = [_exact(talk, tool, values) for tool, values in EXACT]
    seen.forced = [_forced(talk, tools, tool) for tool in tools.named("Bash", "Read", "Edit", "Grep")]
    step("free tool calls")
    seen.free = [_free(talk, tools, *question) for question in _FREE]
    step("a stream of each kind of content")
    seen.streams = _streams(talk, tools, vision=running.record.capabilities.get("vision", False))
    step("schemas that broke grammars before")
    seen.hard = [_hard(talk, *item) for item in HARD.items()]
    step("a large set of tools")
    seen.large, seen.large_bytes = _large(replace(talk, patience_s=LARGE_PATIENCE_S), tools)
    step("the same questions at temperature 0")
    seen.texts = [talk.ask([prompt], max_tokens=TEXT_TOKENS, session="text").text for prompt in PROMPTS]
    step("the second turn of a conversation")
    _conversation(running, talk, tools, seen, step)
    return seen


def speeds(running: TrialStack, seen: Examination, pace: Pace | None, step: OnStep, chunk: int | None) -> None:
    """Prefill and decode with an empty cache, the machine's pace beside them."""
    with running.engine() as client:
        sampler = Sampler(running.pids, patience_s=PATIENCE_S, pace=pace)
        depths = measure(client, sampler, (0,), EFFORT, step, chunk=chunk)
    seen.chunk = depths.chunk
    seen.speeds = {metric.name: metric for by in (depths.prefill, depths.decode) for metric in by.values()}


def _exact(talk: Talk, tool: Tool, values: dict[str, Any]) -> QuestionResult:
    reply = talk.ask(
        [f"Call {tool['name']}."], max_tokens=300, tools=[tool], tool_choice={"type": "tool", "name": tool["name"]}
    )
    if not reply.ok or reply.faults:
        return QuestionResult(tool["name"], False, reply.why)
    if [call["name"] for call in reply.calls] != [tool["name"]]:
        return QuestionResult(tool["name"], False, _no_call(reply))
    made = reply.calls[0]["input"]
    return QuestionResult(
        tool["name"], made == values, "" if made == values else f"its arguments came as {made!r:.200}"
    )


def _forced(talk: Talk, tools: Toolset, tool: Tool) -> QuestionResult:
    """The client's own tools, all of them offered and one demanded; an answer that is cut at its end has begun well."""
    name = tool["name"]
    reply = talk.ask(
        [f"Use the tool {name} on the file README.md."], max_tokens=160, system=tools.system, tools=list(tools.tools),
        tool_choice={"type": "tool", "name": name},
    )  # fmt: skip
    if not reply.ok or reply.faults:
        return QuestionResult(name, False, reply.why)
    if not reply.calls or reply.calls[0]["name"] != name:
        return QuestionResult(name, False, _no_call(reply))
    made = reply.calls[0]["input"]
    lacks = set(tool["input_schema"].get("required") or ()) - set(made or {})
    if lacks and not reply.is_cut:
        return QuestionResult(name, False, f"its arguments lack {', '.join(sorted(lacks))}")
    return QuestionResult(name, True)


def _free(talk: Talk, tools: Toolset, name: str, question: str) -> QuestionResult:
    reply = talk.ask([question], max_tokens=400, system=tools.system, tools=list(tools.tools))
    if not reply.ok or reply.faults:
        return QuestionResult(name, False, reply.why)
    if _LEAKED.search(reply.text):
        return QuestionResult(name, False, "the call came as text")
    called = [call["name"] for call in reply.calls]
    return QuestionResult(name, bool(called), "" if called else f"no call, a text instead: {reply.text!r:.120}")


def _no_call(reply: Reply) -> str:
    called = [call["name"] for call in reply.calls]
    return f"it called {', '.join(called)}" if called else f"no call came, but a text: {reply.text!r:.120}"


def _hard(talk: Talk, name: str, schema: dict[str, Any]) -> QuestionResult:
    tool = hard_tool(schema)
    reply = talk.ask(
        ["Call the tool."], max_tokens=48, tools=[tool], tool_choice={"type": "tool", "name": tool["name"]}
    )
    good = reply.ok and not reply.faults and bool(reply.calls)
    return QuestionResult(name, good, "" if good else reply.why or _no_call(reply))


def _large(talk: Talk, tools: Toolset) -> tuple[QuestionResult, int]:
    """LARGE_BYTES of tools, or as much as the context takes."""
    size = LARGE_BYTES
    n_ctx = talk.trial.record.n_ctx_slot
    while True:
        offered = large(tools.tools, size)
        name = offered[-1]["name"]
        reply = talk.ask(
            [f"Call {name}."], max_tokens=32, tools=list(offered), tool_choice={"type": "tool", "name": name}
        )
        if reply.status != 400 or "too long" not in reply.error or size < LARGE_BYTES // 16:
            break
        size //= 2
    if reply.status == 0:
        return QuestionResult("large", True, f"accepted, and let go after {LARGE_PATIENCE_S:.0f} s of reading"), size
    good = reply.ok and not reply.faults and bool(reply.calls)
    note = f"a context of {n_ctx:,} tokens takes no more" if size < LARGE_BYTES else ""
    return QuestionResult("large", good, note if good else reply.why or _no_call(reply)), size


def _streams(talk: Talk, tools: Toolset, *, vision: bool) -> list[QuestionResult]:
    """Text, a tool call, text behind a tool's result; text about an image where the model reads them."""
    tool, values = EXACT[0]
    call = {"type": "tool_use", "id": "toolu_trial", "name": tool["name"], "input": values}
    result = {"type": "tool_result", "tool_use_id": "toolu_trial", "content": [{"type": "text", "text": "done"}]}
    after: list[Any] = [
        "Set the level.",
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    forced = {"type": "tool", "name": tool["name"]}
    questions: list[tuple[str, str, list[Any], dict[str, Any]]] = [
        ("text", "text", ["Say hello."], {}),
        ("a tool call", "tool_use", ["Set the level."], {"tools": [tool], "tool_choice": forced}),
        ("text after a tool's result", "text", after, {"tools": [tool]}),
    ]
    if vision:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _png()}}
        question = {"role": "user", "content": [image, {"type": "text", "text": "Which colour is this?"}]}
        questions.append(("text about an image", "text", [question], {}))
    answers = []
    for name, kind, messages, more in questions:
        reply = talk.ask(messages, max_tokens=64, **more)
        good = reply.ok and not reply.faults and reply.deltas.get(kind, 0) > 0 and reply.prompt > 0
        why = reply.why or (f"no {kind} came" if not reply.deltas.get(kind) else "it says nothing of its tokens")
        answers.append(QuestionResult(name, good, "" if good else why))
    return answers


def _conversation(running: TrialStack, talk: Talk, tools: Toolset, seen: Examination, step: OnStep) -> None:
    """Three turns of one session; the engine is another process before the third."""
    offered: dict[str, Any] = {
        "system": tools.system,
        "tools": list(tools.tools),
        "tool_choice": {"type": "none"},
        "max_tokens": 32,
    }
    turns: list[Any] = [{"role": "user", "content": _TURNS[0]}]
    first = talk.ask(turns, session="conversation", **offered)
    turns += _said(first, _TURNS[1])
    second = talk.ask(turns, session="conversation", **offered)
    seen.second_turn = Reuse(first.prompt, second.prompt, second.cached)
    turns += _said(second, _TURNS[2])
    step("saving, another process, restoring")
    seen.saved = running.save()
    running.stop_engine()
    running.start_engine()
    running.restore()
    third = talk.ask(turns, session="conversation", **offered)
    seen.restored = Reuse(second.prompt, third.prompt, third.cached)


def _said(reply: Reply, question: str) -> Sequence[dict[str, Any]]:
    text = reply.text or "I see."
    return {"role": "assistant", "content": text}, {"role": "user", "content": question}


def _png(side: int = 32) -> str:
    """A red square, as base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + b"\xff\x00\x00" * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b64encode(parts).decode()
