"""Random request bodies: fields that llama-server documents, fields that are its own, and names nobody knows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from llmstack.llama_server.request_fields import FIELDS, TEMPLATE_OWN, WITHHELD

_NAMES = st.one_of(
    st.sampled_from(sorted(WITHHELD)),
    st.sampled_from(["user", "metadata", "store", "prompt_cache_key", "echo", "embedding", "samplers_", "__proto__"]),
    st.text(min_size=1, max_size=8),
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=2),
    max_leaves=3,
)
_MORE = st.dictionaries(_NAMES, _VALUES, max_size=3)


def _with_more(inside: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _MORE.map(lambda more: {**more, **inside})


def openai_bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Chat completions, each nested object with fields of nobody's beside its own."""
    function = _with_more({"name": "f", "description": "d", "parameters": {"type": "object", "id_slot": 1}})
    schema = _with_more({"name": "s", "schema": {"type": "object", "chat_parser": {}}})
    known = st.fixed_dictionaries(
        {"model": st.just("m"), "messages": st.lists(_with_more({"role": "user", "content": "hi"}), min_size=1)},
        optional={
            "temperature": st.floats(0, 2),
            "cache_prompt": st.booleans(),
            "samplers": st.lists(st.sampled_from(["top_k", "min_p"])),
            "stream_options": _with_more({"include_usage": True}),
            "tools": st.lists(
                st.builds(lambda more, inner: {**more, "type": "function", "function": inner}, _MORE, function),
                max_size=3,
            ),
            "tool_choice": _with_more({"type": "function", "function": {"name": "f", "id_slot": 2}}),
            "response_format": st.builds(
                lambda more, inner: {**more, "type": "json_schema", "json_schema": inner}, _MORE, schema
            ),
            "chat_template_kwargs": st.dictionaries(
                st.sampled_from(["enable_thinking", "mine", *sorted(TEMPLATE_OWN)]), _VALUES
            ),
        },
    )
    return st.builds(lambda more, body: {**more, **body}, _MORE, known)


def anthropic_bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Messages requests with fields of llama-server, and unknown ones, at every level that has a type."""
    block = _with_more({"type": "text", "text": "hi"})
    tool = _with_more({"name": "f", "description": "d", "input_schema": {"type": "object"}})
    known = st.fixed_dictionaries(
        {
            "model": st.just("m"),
            "max_tokens": st.integers(1, 99),
            "messages": st.lists(block, min_size=1, max_size=2).flatmap(
                lambda blocks: st.lists(_with_more({"role": "user", "content": blocks}), min_size=1, max_size=1)
            ),
        },
        optional={
            "system": st.lists(block, max_size=2),
            "tools": st.lists(tool, max_size=1),
            "thinking": _with_more({"type": "enabled", "budget_tokens": 2000}),
            "output_config": _with_more({"effort": "high"}),
            "stop_sequences": st.lists(st.text(min_size=1, max_size=3), max_size=2),
            "temperature": st.floats(0, 1),
            "top_k": st.integers(1, 50),
        },
    )
    return st.builds(lambda more, body: {**more, **body}, _MORE, known)


def outside(body: dict[str, Any]) -> list[str]:
    """What of an engine's request is in no list of what it is meant to be given.

    Written apart from the code that holds fields back: a walk with its own list for each place.
    """
    found = [name for name in body if name not in FIELDS or name in WITHHELD]

    def look(place: str, value: Any, *allowed: str) -> None:
        if isinstance(value, dict):
            found.extend(f"{place}.{name}" for name in value if name not in allowed)

    look("stream_options", body.get("stream_options"), "include_usage")
    shape = body.get("response_format")
    look("response_format", shape, "type", "schema", "json_schema")
    if isinstance(shape, dict):
        look("response_format.json_schema", shape.get("json_schema"), "name", "description", "schema", "strict")
    choice = body.get("tool_choice")
    look("tool_choice", choice, "type", "function", "name")
    if isinstance(choice, dict):
        look("tool_choice.function", choice.get("function"), "name")
    for tool in body.get("tools") or ():
        look("tools", tool, "type", "function")
        look("tools.function", tool["function"], "name", "description", "parameters", "strict")
    for message in body.get("messages") or ():
        look(
            "messages", message, "role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content",
        )  # fmt: skip
    kwargs = body.get("chat_template_kwargs")
    if isinstance(kwargs, dict):
        found.extend(f"chat_template_kwargs.{name}" for name in kwargs if name in TEMPLATE_OWN)
    return found
