"""Any schema becomes one that llama.cpp can make a grammar of, and a good one stays as it is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.protocol.grammatical import grammatical, is_tame

KEYWORDS = (
    "type", "properties", "required", "items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf", "enum",
    "const", "$ref", "$defs", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "pattern",
    "format", "default", "exclusiveMinimum", "exclusiveMaximum",
)  # fmt: skip
leaves = (
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=False) | st.just(10**30)
    | st.sampled_from(
        ["", "object", "string", "integer", "any", "#", "#/$defs/a", "#/properties/a/items", "#/nowhere", "x.json",
         "^a+$",
         "^(a$", "^[$", "date", "^a|b^c$", "^*$"]
    )
)  # fmt: skip
keys = st.sampled_from((*KEYWORDS, "a", "b"))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5))


def build(node: Any, root: Any, seen: set[str]) -> None:
    """As common_chat_schema_builder::build_node reads a schema: raises AssertionError where that throws."""
    assert isinstance(node, dict), node
    if "$ref" in node:
        reference = node["$ref"]
        assert isinstance(reference, str) and reference.startswith("#/")
        if reference not in seen:
            seen.add(reference)
            target = root
            for name in reference[1:].split("/")[1:]:
                target = target[name] if isinstance(target, dict) else target[int(name)]
            build(target, root, seen)
        return
    for key in ("oneOf", "anyOf"):
        if key in node:
            alternatives(node[key], root, seen)
            return
    kind = node.get("type")
    if isinstance(kind, list):
        assert kind
        for one in kind:
            build({**node, "type": one}, root, seen)
        return
    if "const" in node:
        return
    if "enum" in node:
        assert isinstance(node["enum"], list) and node["enum"]
        return
    assert kind is None or isinstance(kind, str)
    has_properties = "properties" in node or node.get("additionalProperties", True) is not True
    assert "format" not in node or isinstance(node["format"], str)
    if kind == "object" or (kind is None and has_properties):
        if kind == "object" and not has_properties and "allOf" in node:
            alternatives(node["allOf"], root, seen)
            return
        assert isinstance(node.get("properties", {}), dict)
        for inner in node.get("properties", {}).values():
            build(inner, root, seen)
        more = node.get("additionalProperties", True)
        if not isinstance(more, bool):
            build(more, root, seen)
    elif kind is None and "allOf" in node:
        alternatives(node["allOf"], root, seen)
    elif kind == "array" or (kind is None and ("items" in node or "prefixItems" in node)):
        items = node.get("items", node.get("prefixItems", {}))
        for inner in items if isinstance(items, list) else [items]:
            build(inner, root, seen)
        in_order(node, "minItems", "maxItems")
    elif kind == "string" and "allOf" in node:
        alternatives(node["allOf"], root, seen)
    elif kind == "string" or kind is None:
        in_order(node, "minLength", "maxLength")
        if "pattern" in node:
            re.compile(node["pattern"])
    elif kind == "integer":
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            assert abs(node.get(key, 0)) <= 2**53
    else:
        assert kind in ("number", "boolean", "null")


def alternatives(schemas: Any, root: Any, seen: set[str]) -> None:
    assert isinstance(schemas, list) and schemas
    for inner in schemas:
        build(inner, root, seen)


def in_order(node: dict[str, Any], least: str, most: str) -> None:
    low, high = node.get(least, 0), node.get(most, 256)
    assert type(low) is int and type(high) is int and 0 <= low <= high


@given(values)
def test_any_value_becomes_a_schema_that_the_builder_takes(value: Any) -> None:
    schema = grammatical(value)
    build(schema, schema, set())
    assert grammatical(schema) == schema


GOOD = {
    "type": "object",
    "$defs": {"Screen": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Screen"}}}},
    "properties": {
        "screen": {"$ref": "#/$defs/Screen"},
        "default": {"type": "string", "description": "a property may be called so"},
        "kind": {"enum": ["a", "b"], "default": "a"},
        "at": {"type": ["string", "null"], "format": "date-time"},
        "code": {"type": "string", "pattern": "^[a-z]{2}$", "minLength": 2},
        "rows": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 8},
        "any": {},
    },
    "required": ["kind"],
    "additionalProperties": False,
}


def test_a_good_schema_stays_as_it_is() -> None:
    assert grammatical(GOOD) == GOOD


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"$ref": "#/$defs/Screen", "description": "d"}, {"description": "d"}),
        ({"$ref": "#"}, {}),
        ({"$ref": "other.json#/x"}, {}),
        ({"type": "any", "title": "t"}, {"title": "t"}),
        ({"type": "String"}, {}),
        ({"enum": []}, {}),
        ({"anyOf": []}, {}),
        ({"properties": {"pattern": {"items": True}}}, {"properties": {"pattern": {"items": {}}}}),
        ({"properties": {"default": True}}, {"properties": {"default": {}}}),
        ({"type": "string", "minLength": 3, "maxLength": 1}, {"type": "string"}),
        ({"type": "string", "minLength": 2.0}, {"type": "string"}),
        ({"type": "integer", "minimum": 10**30}, {"type": "integer"}),
        ({"additionalProperties": "no"}, {"additionalProperties": {}}),
    ],
)
def test_what_is_refused_becomes_open(schema: Any, left: Any) -> None:
    inside = {"type": "object", "properties": {"a": schema}}
    assert grammatical(inside)["properties"]["a"] == left


@pytest.mark.parametrize(
    "pattern", ["^(a$", "^[$", "^*$", "^a^b$", "^a$b$", "a", "^" + "a" * 300 + "$", "^(?=a)$", "^a\\$"]
)
def test_a_pattern_that_is_no_grammar_is_known(pattern: str) -> None:
    assert not is_tame(pattern)
