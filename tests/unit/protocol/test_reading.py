"""How far a prompt is read, shown as thinking: a block of its own, which the model never sees again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmstack.protocol import chat
from llmstack.protocol.anthropic import BlockStart
from llmstack.protocol.chat import PrefillProgress
from llmstack.protocol.message import Assembler
from llmstack.protocol.reading import SIGNATURE, ReadingNotes
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from support.stream_replay import check_legal
from unit.protocol.test_request_translation import assistant, messages, said, user


def chunk(**fields: Any) -> chat.ChatChunk:
    return chat.decode(msgspec.json.encode(fields))


def progress(processed: int, time_ms: float) -> chat.ChatChunk:
    told = {"total": 1000, "cache": 0, "processed": processed, "time_ms": time_ms}
    return chunk(choices=[{"delta": {"role": "assistant", "content": None}}], prompt_progress=told)


def play(*chunks: chat.ChatChunk, show: bool = True) -> tuple[list[Any], Any]:
    settings = StreamSettings("m", "msg_1", str, tools={"t": {}}, show_reading=show)
    stream = MessageStream(settings)
    events = [event for each in chunks for event in stream.receive(each)]
    events += stream.receive(chunk(choices=[{"delta": {}, "finish_reason": "stop"}])) + stream.end()
    check_legal(events)
    whole = Assembler()
    whole.receive(events)
    return events, whole.message["content"]


LONG = (progress(100, 1000), progress(400, 4000), progress(420, 4100), progress(900, 9000))


@pytest.mark.parametrize(
    ("delta", "kind"),
    [
        ({"content": "hi"}, "text"),
        ({"reasoning_content": "hm"}, "thinking"),
        ({"tool_calls": [{"index": 0, "function": {"name": "t", "arguments": "{}"}}]}, "tool_use"),
    ],
)
def test_what_is_shown_is_a_block_of_its_own_before_the_models(delta: Any, kind: str) -> None:
    _, blocks = play(*LONG, chunk(choices=[{"delta": delta}]))
    assert [block["type"] for block in blocks] == ["thinking", kind]
    assert blocks[0]["signature"] == SIGNATURE != blocks[1].get("signature")
    assert blocks[0]["thinking"] == "reading the prompt: 40% of 1,000 tokens\nreading the prompt: 90% of 1,000 tokens\n"


def test_an_answer_without_a_word_has_an_empty_text_all_the_same() -> None:
    _, blocks = play(*LONG)
    assert [block["type"] for block in blocks] == ["thinking", "text"]


def test_nothing_is_shown_of_a_prompt_that_is_read_soon_nor_where_nobody_wants_it() -> None:
    events, _ = play(progress(900, 2000), chunk(choices=[{"delta": {"content": "hi"}}]))
    assert [event.index for event in events if isinstance(event, BlockStart)] == [0]
    _, blocks = play(*LONG, chunk(choices=[{"delta": {"content": "hi"}}]), show=False)
    assert [block["type"] for block in blocks] == ["text"]


def test_the_next_prompt_has_nothing_of_it() -> None:
    shown = {"type": "thinking", "thinking": "reading the prompt: 40 %", "signature": SIGNATURE}
    thought = {"type": "thinking", "thinking": "hm", "signature": "llmstack"}
    assert messages(user("x"), assistant(shown, thought, said("y")))[1] == {
        "role": "assistant", "content": "y", "reasoning_content": "hm",
    }  # fmt: skip
    assert messages(user("x"), assistant(shown, said("y")))[1] == {"role": "assistant", "content": "y"}


def test_figures_of_nobody_say_nothing() -> None:
    assert ReadingNotes().line(PrefillProgress(0, 0, 5, 9000)) == ""
    assert ReadingNotes().line(PrefillProgress(10, 0, 50, 9000)).startswith("reading the prompt: 100%")
