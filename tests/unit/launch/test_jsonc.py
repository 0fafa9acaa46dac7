"""JSON with comments is changed in its text, and nothing else of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.launch.jsonc import NotJson, parse, with_value, without

COMMENTED = """{
  // mine
  "theme": "dark", /* "model": "not this" */
  "model": "their/model", // the best
  "provider": {
    "other": {"x": [1, 2, {"y": "}"}]},
  },
}
"""


def test_comments_order_and_a_last_comma_stay() -> None:
    text = with_value(COMMENTED, ("model",), "llmstack/m")
    assert text == COMMENTED.replace("their/model", "llmstack/m")
    text = with_value(text, ("provider", "llmstack"), {"a": 1})
    assert parse(text)["provider"] == {"other": {"x": [1, 2, {"y": "}"}]}, "llmstack": {"a": 1}}
    assert all(line in text for line in ("  // mine\n", '/* "model": "not this" */', "// the best\n"))
    assert without(text, ("provider", "llmstack")) == COMMENTED.replace("their/model", "llmstack/m")


@pytest.mark.parametrize(
    "text", ["", " \n", "{}", "{}\n", "{ }", "{\n}\n", "{ // nothing yet\n}\n", '{"a":1}', '{"m":0,}']
)
def test_any_object_takes_a_value_and_gives_it_back(text: str) -> None:
    made = with_value(text, ("llmstack",), {"b": [1]})
    assert parse(made) == {**parse(text), "llmstack": {"b": [1]}}
    assert parse(without(made, ("llmstack",))) == parse(text)


@pytest.mark.parametrize("text", ["[1]", '"x"', "{'a': 1}", '{"a" 1}', '{"a": }', "\ufeff{}", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        parse(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.text(max_size=4), VALUES, st.sampled_from([None, 2])
)
def test_a_document_with_a_value_is_that_document_with_that_value(
    document: dict[str, Any], key: str, value: Any, indent: int | None
) -> None:
    text = json.dumps(document, indent=indent)
    made = with_value(text, (key,), value)
    assert parse(made) == {**document, key: value}
    assert parse(without(made, (key,))) == {name: one for name, one in document.items() if name != key}


@given(st.text(alphabet='{}[]",:/*\\ \na1', max_size=40))
def test_no_text_is_read_without_end(text: str) -> None:
    try:
        document = parse(text)
        made = with_value(text, ("k",), 1)
    except NotJson:
        return
    assert parse(made) == {**document, "k": 1}
