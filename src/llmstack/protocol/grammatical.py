"""A JSON schema as llama.cpp can make a grammar of it: what it refuses becomes open, what it can say stays.

llama-server turns the schemas of all tools into one grammar, and one schema that it can't read refuses the whole
request. Rules: common/json-schema.cpp (common_chat_schema_builder), common/json-schema-to-grammar.cpp (b11434).

| in the schema                                          | here                                     |
| ------------------------------------------------------ | ---------------------------------------- |
| true, false or another value where a schema belongs    | {}: anything                             |
| a $ref to itself (`#`), elsewhere, or to nothing       | dropped                                  |
| an unknown type, an empty enum, anyOf, oneOf or allOf  | dropped                                  |
| a count that is none, bounds that exclude each other   | dropped                                  |
| a pattern that is not anchored, invalid, or runs away  | dropped                                  |
| more than 24 levels                                    | {} below                                 |

Only assertions go: titles, descriptions and names stay for the model to read.
"""

from __future__ import annotations

import re
from typing import Any

from llmstack.protocol.schema import TYPES

_MAX_DEPTH = 24
_MAX_REPEAT = 256
_MAX_PATTERN = 200
_LARGEST = 2**53
# Nested or stacked repetitions make llama.cpp's grammar explode (llama.cpp#25308, #26600, #27619).
_WILD = re.compile(r"[+*}][+*{]|\)[+*]|\{\d{3,}|\\[dDwWsSbB]?\{|\(\?[^:]|\\[1-9]")
_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")  # schemas by name
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "additionalItems")
_COUNTS = (
    ("minItems", "maxItems"),
    ("minLength", "maxLength"),
    ("minProperties", "maxProperties"),
)
_BOUNDS = (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum"))


def grammatical(schema: Any) -> dict[str, Any]:
    """The schema of a tool's arguments; itself where nothing has to go."""
    result = _schema(schema, 0)
    _resolve(result, result)
    return result


def opened(schema: Any) -> dict[str, Any]:
    """What is left of a schema that no grammar can be made of: the names of its members, and what is said of them."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    members = {
        name: {"description": inner["description"]}
        if isinstance(inner, dict) and isinstance(inner.get("description"), str)
        else {}
        for name, inner in (properties if isinstance(properties, dict) else {}).items()
    }
    return {"type": "object", "properties": members, "additionalProperties": True} if members else {"type": "object"}


def _schema(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict) or depth >= _MAX_DEPTH:
        return {}
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS:
            if isinstance(value, dict):
                result[key] = {name: _schema(inner, depth + 1) for name, inner in value.items()}
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            if isinstance(value, list) and (value or key in ("prefixItems", "items")):
                result[key] = [_schema(inner, depth + 1) for inner in value]
        elif key == "additionalProperties" and isinstance(value, bool):
            result[key] = value
        elif key in _ONE:
            result[key] = _schema(value, depth + 1)
        elif _is_kept(key, value):
            result[key] = _types(value) if key == "type" else value
    for pair in _COUNTS + _BOUNDS:
        _in_order(result, *pair)
    return result


def _is_kept(key: str, value: Any) -> bool:
    if key == "$ref":
        return isinstance(value, str) and value.startswith("#/")
    if key == "type":
        return bool(_types(value))
    if key == "enum":
        return isinstance(value, list) and bool(value)
    if key == "pattern":
        return isinstance(value, str) and is_tame(value)
    if key == "format":
        return isinstance(value, str)
    if any(key in pair for pair in _COUNTS):
        return _is_whole(value) and 0 <= value <= _MAX_REPEAT
    if any(key in pair for pair in _BOUNDS):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return True


def _types(value: Any) -> Any:
    """The types that llama.cpp knows; none for what names no such type."""
    if isinstance(value, str):
        return value if value in TYPES else None
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str) and item in TYPES]
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_order(schema: dict[str, Any], least: str, most: str) -> None:
    if least in schema and most in schema and schema[least] > schema[most]:
        del schema[least], schema[most]


def is_tame(pattern: str) -> bool:
    """Whether llama.cpp reads this pattern, and its grammar stays small."""
    if len(pattern) > _MAX_PATTERN or not (pattern.startswith("^") and pattern.endswith("$")):
        return False
    inner = pattern[1:-1]
    if _WILD.search(inner) or "^" in inner.replace("[^", "") or "$" in inner:
        return False
    try:
        re.compile(inner)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _resolve(node: Any, root: dict[str, Any]) -> None:
    """Drops each $ref that leads to no schema of this document."""
    rest = [node]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str) and not isinstance(_target(reference, root), dict):
                del value["$ref"]
            rest += value.values()


def _target(reference: str, root: Any) -> Any:
    """As resolve_ref of json-schema.cpp goes: member by member, without escapes."""
    target = root
    for name in reference[1:].split("/")[1:]:
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isascii() and name.isdigit() and int(name) < len(target):
            target = target[int(name)]
        else:
            return None
    return target
