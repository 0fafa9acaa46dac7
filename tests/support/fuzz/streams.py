"""What an upstream sends: known streams with odd bytes, split at any place; and events in any order."""

from __future__ import annotations

import json
import random

from llmstack.protocol import sse
from llmstack.protocol.clients.chat_answer import ChatSide
from llmstack.protocol.clients.relayed import RelayedStream
from llmstack.protocol.passed_stream import PassedStream
from support.stream_replay import check_legal, replay
from support.streams import CASES, DONE, Case, delta, event, finish, more, text, think, tool, usage

_ODD = (
    b"data: {\n\n",
    b"data: null\n\n",
    b"data: []\n\n",
    b"event: x\n\n",
    b": c\n\n",
    b"\r\n\r\n",
    b"data:\n\n",
    b"\xff\xfe",
    b'data: {"choices":[{"delta":{"content":7}}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{}]}}]}\n\n',
    b'data: {"error":"no"}\n\n',
    b'data: {"choices":7}\n\n',
    b"data: " + b"[" * 200 + b"\n\n",
)
_WORDS = (
    "",
    "a",
    "é模",
    "<tool_call>",
    "</tool_call>",
    "<function=Read>",
    "<parameter=path>",
    '{"name":',
    "<think>",
    "```",
)
_ANTHROPIC = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
    "odd",
)


def piece(dice: random.Random) -> bytes:
    word = dice.choice(_WORDS)
    call = dice.randrange(4)
    makers = (
        lambda: text(word),
        lambda: think(word),
        lambda: tool(call, f"call_{call}", dice.choice(("Read", "No")), word),
        lambda: more(call, word),
        lambda: delta(role="assistant"),
        lambda: event({"choices": []}),
        lambda: usage(9, 1, 1),
        lambda: dice.choice(_ODD),
        lambda: dice.choice((finish(), finish("tool_calls"), DONE)),
    )
    return dice.choice(makers)()


def pieces_of(data: bytes, dice: random.Random) -> list[bytes]:
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 1, 3, 12))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def one(seed: int) -> None:
    dice = random.Random(seed)
    data = (
        dice.choice(CASES).data if dice.random() < 0.4 else b"".join(piece(dice) for _ in range(dice.randrange(1, 14)))
    )
    if dice.random() < 0.5:
        at = dice.randrange(len(data) + 1)
        data = data[:at] + dice.choice((*_ODD, b"")) + (data[at:] if dice.random() < 0.7 else b"")
    case = Case("", data)
    whole = replay(case, [data])
    check_legal(whole)
    assert sse.encode_all(replay(case, pieces_of(data, dice))) == sse.encode_all(whole), "a split changes it"
    _passed(data, dice, anthropic=False)
    _passed(_anthropic(dice), dice, anthropic=True)


def _anthropic(dice: random.Random) -> bytes:
    """Events of Messages in any order, some of another shape."""
    out = []
    for _ in range(dice.randrange(1, 9)):
        kind = dice.choice(_ANTHROPIC)
        value = {
            "type": kind,
            "index": dice.choice((0, 1, "x")),
            "message": dice.choice(({"id": "m", "usage": {}}, 7, {})),
            "content_block": dice.choice(
                ({"type": "text", "text": ""}, {"type": "tool_use", "id": "t", "name": "N"}, {})
            ),
            "delta": dice.choice(({"type": "text_delta", "text": "x"}, {"stop_reason": "end_turn"}, [], None)),
            "error": dice.choice(({"type": "e", "message": "m"}, "no", None)),
        }
        out.append(f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode())
    return b"".join(out)


def _passed(data: bytes, dice: random.Random, *, anthropic: bool) -> None:
    """What is passed on is whole events, up to one end; the same translated."""
    whole, parts = PassedStream(anthropic=anthropic), PassedStream(anthropic=anthropic)
    out = whole.receive(data)
    assert b"".join(parts.receive(part) for part in pieces_of(data, dice)) == out, "a split changes what is passed on"
    assert data.startswith(out)
    if anthropic:
        translated = RelayedStream(ChatSide("m", 1, usage=True))
        shown = b"".join(translated.receive(part) for part in pieces_of(data, dice)) + translated.end()
        assert shown.count(b"data: [DONE]") + shown.count(b'data: {"error"') == 1, shown[-300:]
