"""Which requests share a prefix, and what a saved state is worth."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from llmstack.warmstart import prefix

BODY = {
    "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "hi"}],
    "tools": msgspec.Raw(b'[{"name":"run"}]'),
    "chat_template_kwargs": {"enable_thinking": False},
    "temperature": 0.5,
}


def test_the_conversation_and_the_sampling_are_no_part_of_the_key() -> None:
    other = {**BODY, "messages": [BODY["messages"][0], {"role": "user", "content": "else"}], "temperature": 1}
    assert prefix.key_of(other) == prefix.key_of(BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "system", "content": "Rules"}]},
        {"tools": msgspec.Raw(b'[{"name":"ran"}]')},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"reasoning_effort": "low"},
        {"tool_choice": "required"},
    ],
)
def test_whatever_a_template_may_print_is_part_of_the_key(change: dict[str, object]) -> None:
    assert prefix.key_of({**BODY, **change}) != prefix.key_of(BODY)


def test_probes_share_the_prefix_and_begin_differently() -> None:
    probes = prefix.probes(BODY)
    assert {prefix.key_of(probe) for probe in probes} == {prefix.key_of(BODY)}
    firsts = {probe["messages"][-1]["content"][0] for probe in probes}
    assert len(firsts) == len(probes) >= 4


def test_a_conversation_begins_with_one_short_message() -> None:
    system, hello = BODY["messages"]
    assert prefix.begins(BODY) and prefix.begins({"messages": [hello]})
    assert not prefix.begins({"messages": [system, hello, {"role": "assistant", "content": "hi"}, hello]})
    assert not prefix.begins({"messages": [system, {"role": "user", "content": "x" * prefix.SHORT_BYTES}]})
    assert not prefix.begins({"messages": [system]})


def test_size_counts_system_text_and_tools() -> None:
    assert prefix.size_of(BODY) == len("rules") + len('[{"name":"run"}]')
    assert prefix.size_of({"messages": [{"role": "user", "content": "x" * 99}]}) == 0


@pytest.mark.parametrize(
    ("one", "other", "length"), [([], [1], 0), ([1, 2, 3], [1, 2, 4, 5], 2), ([7] * 9, [7] * 9, 9)]
)
def test_common_length_is_the_common_beginning(one: list[int], other: list[int], length: int) -> None:
    assert prefix.common_length(array("I", one), array("I", other)) == length
    assert prefix.common([array("I", one), array("I", other)]) == length


def test_a_state_that_cannot_roll_back_counts_whole_or_not() -> None:
    saved, prompt = array("I", [1, 2, 3, 9]), array("I", [1, 2, 3, 4, 5])
    assert prefix.reusable(saved, prompt, rolls_back=True) == 3
    assert prefix.reusable(saved, prompt, rolls_back=False) == 0
    assert prefix.reusable(saved[:3], prompt, rolls_back=False) == 3


def test_one_token_is_always_computed() -> None:
    same = array("I", [1, 2, 3])
    assert prefix.reusable(same, same, rolls_back=True) == 2
    assert prefix.reusable(same, same, rolls_back=False) == 0
