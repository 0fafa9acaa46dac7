"""What a tool's JSON schema says about a value, as far as repairing and typing arguments needs it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from llmstack.protocol.json_text import value_of

TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")


_DEEP = 24


def types_of(schema: Any, depth: int = 0) -> frozenset[str] | None:
    """The JSON types a schema allows; None when it does not say (a $ref, a bare {}), so anything may come."""
    if not isinstance(schema, dict) or depth > _DEEP:
        return None
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset({declared}) if declared in TYPES else None
    if isinstance(declared, list):
        return frozenset(str(t) for t in declared)
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            allowed: set[str] = set()
            for option in options:
                types = types_of(option, depth + 1)
                if types is None:
                    return None
                allowed |= types
            return frozenset(allowed)
    values = schema.get("enum") if "enum" in schema else [schema["const"]] if "const" in schema else None
    if isinstance(values, list) and values:
        return frozenset(_type_of(value) for value in values)
    if isinstance(schema.get("properties"), dict):
        return frozenset({"object"})
    return None


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def properties_of(schema: Any) -> dict[str, Any]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            return properties
    return {}


def required_of(schema: Any) -> frozenset[str]:
    if isinstance(schema, dict):
        names = schema.get("required")
        if isinstance(names, list):
            return frozenset(str(name) for name in names)
    return frozenset()


def never_a_string(schema: Any) -> bool:
    """True when a string in this place can only be another value that was quoted."""
    types = types_of(schema)
    return types is not None and "string" not in types and bool(types)


def unquote(text: str, schema: Any) -> Any:
    """The value a string stands for where the schema allows no string.

    Raises ValueError when it stands for none: then it goes through untouched, for the client to judge.
    """
    types = types_of(schema) or frozenset()
    stripped = text.strip()
    if types & {"array", "object"} and stripped[:1] in ("[", "{"):
        try:
            value = value_of(stripped)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error
        if _type_of(value) in types:
            return repair_value(value, schema)[0]
    if "boolean" in types and stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if "integer" in types and INTEGER.match(stripped):
        return int(stripped)
    if "number" in types and NUMBER.match(stripped):
        return value_of(stripped)
    if "null" in types and stripped == "null":
        return None
    raise ValueError(text)


def repair_value(value: Any, schema: Any) -> tuple[Any, int]:
    """A value with what is certainly wrong put right, and how many places that were."""
    try:
        return _repaired(value, schema)
    except RecursionError:  # a model that nests without an end is not repaired
        return value, 0


def _repaired(value: Any, schema: Any) -> tuple[Any, int]:
    repaired = 0
    if isinstance(value, str):
        if never_a_string(schema):
            try:
                return unquote(value, schema), 1
            except ValueError:
                return value, 0
        return value, 0
    if isinstance(value, list):
        items = schema.get("items") if isinstance(schema, dict) else None
        result = []
        for item in value:
            new, count = _repaired(item, items)
            result.append(new)
            repaired += count
        return (result, repaired) if repaired else (value, 0)
    if isinstance(value, dict):
        properties = properties_of(schema)
        fresh: dict[str, Any] = {}
        for key, item in value.items():
            new, count = _repaired(item, properties.get(key))
            fresh[key] = new
            repaired += count
        return (fresh, repaired) if repaired else (value, 0)
    return value, 0


def may_need_repair(schema: Any, depth: int = 0) -> bool:
    """Whether something below a container may have been quoted by mistake."""
    if depth > 8 or not isinstance(schema, dict):
        return False
    inner = [schema.get("items"), *properties_of(schema).values()]
    return any(never_a_string(part) or may_need_repair(part, depth + 1) for part in inner if part is not None)


_OPPOSITES = (("allowed", "blocked"), ("allow", "deny"), ("include", "exclude"), ("included", "excluded"))


def exclusive_arrays(schema: Any) -> frozenset[str]:
    """Optional arrays that come as a pair of opposites (allowed_x and blocked_x).

    Tools refuse both at once, and a model that must fill every field sends an empty list for the one it does not
    mean. An empty list says nothing there, so it can be left out.
    """
    properties, required = properties_of(schema), required_of(schema)
    droppable: set[str] = set()
    for name, part in properties.items():
        types = types_of(part)
        if name in required or types is None or "array" not in types:
            continue
        for first, second in _OPPOSITES:
            for own, other in ((first, second), (second, first)):
                if name.startswith(own + "_"):
                    twin = other + name[len(own) :]
                    if twin in properties and twin not in required:
                        droppable.add(name)
    return frozenset(droppable)


def is_strict(schema: Any, depth: int = 0) -> bool:
    """Whether OpenAI takes this schema with `strict`: each object is closed and requires all its properties
    (Structured outputs, "Supported schemas"). Hosts that copy it refuse any other, the whole request with it."""
    if isinstance(schema, list):
        return all(is_strict(item, depth + 1) for item in schema)
    if not isinstance(schema, dict):
        return True
    if depth > _DEEP:
        return False
    types = types_of(schema)
    if "properties" in schema or (types is not None and "object" in types):
        properties = properties_of(schema)
        if schema.get("additionalProperties") is not False or required_of(schema) != properties.keys():
            return False
        if not all(is_strict(value, depth + 1) for value in properties.values()):
            return False
    no_schemas = ("properties", "enum", "const", "default", "examples")
    others = (value for key, value in schema.items() if key not in no_schemas)
    return all(is_strict(value, depth + 1) for value in others if isinstance(value, dict | list))
