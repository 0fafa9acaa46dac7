"""Properties that hold for every stream, however it is cut and whatever an upstream may legally send."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.protocol import sse
from llmstack.protocol.inline_tool_calls import InlineCall, InlineToolCallParser, Thought
from llmstack.protocol.repair import ArgumentStream
from llmstack.protocol.request import Dialect, Translator, decode
from support.stream_replay import blocks, check, check_legal, machine, message, replay
from support.streams import CASES, DONE, TOOLS, Case, delta, event, finish, more, text, think, tool, usage

FEW = settings(max_examples=150, deadline=None)


@FEW
@given(st.sampled_from(CASES), st.data())
def test_any_chunking_gives_the_same_message(case: Case, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(case.data)), max_size=12)))
    edges = [0, *cuts, len(case.data)]
    check(case, replay(case, [case.data[a:b] for a, b in itertools.pairwise(edges)]))


words = st.text(max_size=12)
steps = st.one_of(
    words.map(text),
    words.map(think),
    st.tuples(st.integers(0, 3), st.sampled_from(["Read", "Bash", "Nope"]), words).map(
        lambda t: tool(t[0], f"call_{t[0]}", t[1], json.dumps({"path": t[2]}))
    ),
    st.tuples(st.integers(0, 3), words).map(lambda t: more(*t)),
    st.just(delta(role="assistant")),
    st.just(event({"choices": []})),
    st.integers(0, 9).map(lambda n: usage(n * 10, n, n)),
    st.sampled_from(["<tool_call>", "</tool_call>", "<function=Read>", "```", "{", '{"name":', "<think>"]).map(text),
    st.just(b": comment\n\n"),
)
ends = st.sampled_from([finish() + DONE, finish("length") + DONE, finish("tool_calls") + DONE, finish(), DONE, b""])


@FEW
@given(st.lists(steps, max_size=12), ends, st.integers(1, 40))
def test_any_upstream_gives_a_legal_stream_with_one_end(pieces: list[bytes], end: bytes, size: int) -> None:
    data = b"".join(pieces) + end
    case = Case("", data)
    events = replay(case, [data])
    check_legal(events)
    again = replay(case, [data[i : i + size] for i in range(0, len(data), size)])
    assert sse.encode_all(again) == sse.encode_all(events)


@FEW
@given(st.lists(words, max_size=8))
def test_text_is_never_lost_or_changed(pieces: list[str]) -> None:
    case = Case("", text(*pieces) + finish() + DONE, thinking=True)
    stream = machine(case)
    found = blocks(message(replay(case, [case.data], stream)))
    if stream.leaked == 0 and not any(block[0] == "thinking" for block in found):
        assert "".join(block[1] for block in found) == "".join(pieces)


@FEW
@given(st.text(alphabet='<>/`{}"=: \ntolcaunein_RdB', max_size=80), st.integers(1, 9))
def test_what_is_no_leaked_call_comes_out_as_it_went_in(told: str, size: int) -> None:
    scanner = InlineToolCallParser(TOOLS, thinking=False)
    out: list[str | InlineCall | Thought] = []
    for start in range(0, len(told), size):
        out += scanner.receive(told[start : start + size])
    out += scanner.end()
    if not any(isinstance(piece, InlineCall) for piece in out):
        assert "".join(piece for piece in out if isinstance(piece, str)) == told


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(st.dictionaries(st.sampled_from(["path", "limit", "zzz"]), values, max_size=3), st.integers(1, 9), st.booleans())
def test_arguments_that_need_no_repair_pass_byte_for_byte(value: dict[str, Any], size: int, spaced: bool) -> None:
    raw = json.dumps(value, indent=1 if spaced else None)
    stream = ArgumentStream(TOOLS["Read"])
    out = "".join(stream.receive(raw[i : i + size]) for i in range(0, len(raw), size)) + stream.end()
    if stream.repairs == 0:
        assert out == raw
    else:
        assert json.loads(out)["limit"] == json.loads(value["limit"])
        assert {k: v for k, v in json.loads(out).items() if k != "limit"} == {
            k: v for k, v in value.items() if k != "limit"
        }


@FEW
@given(st.text(max_size=60), st.integers(1, 7))
def test_broken_arguments_pass_untouched_and_nothing_is_lost(told: str, size: int) -> None:
    for schema in (None, TOOLS["Read"], TOOLS["TodoWrite"], TOOLS["WebSearch"]):
        stream = ArgumentStream(schema)
        out = "".join(stream.receive(told[i : i + size]) for i in range(0, len(told), size)) + stream.end()
        if stream.repairs == 0:
            assert out == (told or "{}")


@FEW
@given(st.binary(max_size=200), st.integers(1, 20))
def test_the_decoder_gives_the_same_events_for_every_chunking(data: bytes, size: int) -> None:
    one = sse.SSEDecoder()
    whole = one.receive_data(data) + one.end()
    many = sse.SSEDecoder()
    parts = [payload for i in range(0, len(data), size) for payload in many.receive_data(data[i : i + size])]
    assert parts + many.end() == whole


turns = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=20)).map(
        lambda t: {"role": t[0], "content": t[1]}
    ),
    min_size=1,
    max_size=8,
)


@FEW
@given(turns)
def test_any_conversation_has_roles_a_strict_template_takes(conversation: list[dict[str, str]]) -> None:
    request = decode(json.dumps({"model": "m", "messages": conversation}).encode())
    found = Translator().to_chat(request, Dialect()).body["messages"]
    roles = [m["role"] for m in found]
    assert "system" not in roles[1:]
    assert all(a != b for a, b in itertools.pairwise(roles))


@FEW
@given(turns, turns)
def test_a_longer_conversation_only_extends_the_shorter_one(
    first: list[dict[str, str]], then: list[dict[str, str]]
) -> None:
    """The KV cache is a prefix of bytes: all but the last message stay, and that one is only continued."""
    first = [*first, {"role": "user", "content": "u"}]
    then = [{"role": "assistant", "content": "a"}, *then]

    def told(conversation: list[dict[str, str]]) -> list[Any]:
        request = decode(json.dumps({"model": "m", "messages": conversation}).encode())
        return list(Translator().to_chat(request, Dialect()).body["messages"])

    assert told([*first, *then])[: len(told(first))] == told(first)
