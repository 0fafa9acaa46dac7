"""Which fields of a client's request reach llama-server: the only list of them.

llama-server takes more from a request than its README names. Some of it is its own working state, which its chat
route writes and its completion reader takes from the same object (tools/server/server-common.cpp:
oaicompat_chat_params_parse copies every field that it has not written itself): `chat_parser` (CVE-2026-107183) and
`grammar_triggers` (CVE-2026-134540) ended in memory faults there. So a field is passed on because it is named here,
never because it is not known to be bad.

Names and meanings: tools/server/README.md, server-schema.cpp and common/chat.cpp of llama.cpp (build 11434).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Why each group may pass. A field that llama-server ignores (user, metadata, store, …) is in none of them.
_GROUPS: dict[str, tuple[str, ...]] = {
    "the conversation": (
        "model", "messages", "add_generation_prompt", "continue_final_message", "chat_template_kwargs",
    ),
    "tools, called by the rules that the server makes of their schemas": (
        "tools", "tool_choice", "parallel_tool_calls",
    ),
    "the shape of the answer; a grammar is text, and parsed as such": (
        "response_format", "json_schema", "grammar",
    ),
    "the length and the end of the answer": (
        "max_tokens", "max_completion_tokens", "n_predict", "n_indent", "t_max_predict_ms", "stop", "ignore_eos", "n",
    ),
    "sampling: numbers, a list of names, and weights by token": (
        "seed", "temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p", "min_p", "top_n_sigma",
        "typical_p", "xtc_probability", "xtc_threshold", "repeat_last_n", "repeat_penalty", "presence_penalty",
        "frequency_penalty", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
        "dry_sequence_breakers", "mirostat", "mirostat_tau", "mirostat_eta", "adaptive_target", "adaptive_decay",
        "min_keep", "samplers", "logit_bias",
    ),
    "thinking": (
        "reasoning_format", "reasoning_effort", "reasoning_budget_tokens", "thinking_budget_tokens",
        "reasoning_budget_message",
    ),
    "what is told besides the answer": (
        "stream", "stream_options", "logprobs", "top_logprobs", "n_probs", "post_sampling_probs", "return_tokens",
        "return_progress", "timings_per_token", "verbose", "response_fields",
    ),
    "whether the prompt may be part": ("cache_prompt",),
}  # fmt: skip

FIELDS = frozenset(name for names in _GROUPS.values() for name in names)

WITHHELD: dict[str, str] = {
    "grammar_triggers": "the server's own state; read without a check of its types (CVE-2026-134540)",
    "chat_parser": "the server's own state; a parser from outside is used after it was freed (CVE-2026-107183)",
    "grammar_lazy": "goes with grammar_triggers",
    "grammar_type": "says of which origin a grammar is, which the server knows",
    "preserved_tokens": "the server's own state, made from the template",
    "chat_format": "the server's own state: the number of a parser, not checked",
    "generation_prompt": "the server's own state, made from the template",
    "parse_tool_calls": "the server's own state",
    "reasoning_budget_start_tag": "the server's own state, made from the template",
    "reasoning_budget_end_tags": "the server's own state, made from the template",
    "reasoning_control": "there is no way through the proxy to the request that it prepares",
    "id_slot": "which conversation is in which slot is the proxy's to choose",
    "n_keep": "for shifting a context, which is off",
    "n_discard": "for shifting a context, which is off; a negative one wrote outside its buffer (CVE-2026-21869)",
    "n_cache_reuse": "moves saved cells of other conversations; set with --cache-reuse",
    "lora": "a saved state belongs to the adapters that the server was started with",
    "speculative.n_max": "the memory of drafting is planned; set with --spec-draft-n-max",
    "prompt": "a chat's prompt is made from its messages",
}
"""Fields that llama-server reads and a client does not reach, with the reason. What stands in neither table is held
back too."""

_NESTED: dict[str, frozenset[str]] = {
    "stream_options": frozenset({"include_usage"}),
    "response_format": frozenset({"type", "schema", "json_schema"}),
    "tool_choice": frozenset({"type", "function", "name"}),
}
_SCHEMA_WRAPPER = frozenset({"name", "description", "schema", "strict"})
_TOOL = frozenset({"type", "function"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})
_MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"})
TEMPLATE_OWN = frozenset({"messages", "tools", "bos_token", "eos_token", "add_generation_prompt"})
"""Names that the renderer itself gives a template. A chat_template_kwargs of the same name would replace them
(common/chat.cpp: common_chat_template_direct_apply_impl merges what it is given over its own)."""


class Reach(NamedTuple):
    """request: what may reach the server; the same object where nothing was held back. held_back: dotted names."""

    request: dict[str, Any]
    held_back: tuple[str, ...] = ()


def reach(request: dict[str, Any]) -> Reach:
    """The part of an OpenAI chat request that llama-server is given.

    Looks at the request's own keys, at those of each message and tool, and at those of the few objects inside that
    the server reads as settings: never into a schema, a text or an image. `request` itself is not changed.
    """
    held_back = [name for name in request if name not in FIELDS]
    changed: dict[str, Any] = {}
    for name, allowed in _NESTED.items():
        _narrow(request, changed, name, allowed, held_back)
    wrapper = changed.get("response_format", request.get("response_format"))
    if isinstance(wrapper, dict) and isinstance(wrapper.get("json_schema"), dict):
        part = _kept(wrapper["json_schema"], _SCHEMA_WRAPPER, "response_format.json_schema", held_back)
        if part is not None:
            changed["response_format"] = {**wrapper, "json_schema": part}
    choice = changed.get("tool_choice", request.get("tool_choice"))
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        part = _kept(choice["function"], frozenset({"name"}), "tool_choice.function", held_back)
        if part is not None:
            changed["tool_choice"] = {**choice, "function": part}
    kwargs = request.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and not TEMPLATE_OWN.isdisjoint(kwargs):
        held_back += [f"chat_template_kwargs.{name}" for name in kwargs if name in TEMPLATE_OWN]
        changed["chat_template_kwargs"] = {name: value for name, value in kwargs.items() if name not in TEMPLATE_OWN}
    _entries(request, changed, "messages", _MESSAGE, held_back)
    _entries(request, changed, "tools", _TOOL, held_back, function=True)
    if not held_back:
        return Reach(request)
    fields = {name: changed.get(name, value) for name, value in request.items() if name in FIELDS}
    return Reach(fields, tuple(dict.fromkeys(held_back)))


def lost_trigger(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for a grammar that begins at a trigger. Without its triggers, which are held back, the
    grammar would hold from the first token on: another answer than the one asked for."""
    return bool(request.get("grammar_lazy")) and bool(request.get("grammar"))


def _kept(value: dict[str, Any], allowed: frozenset[str], path: str, held_back: list[str]) -> dict[str, Any] | None:
    """The allowed part of an object; None where all of it is."""
    if value.keys() <= allowed:
        return None
    held_back += [f"{path}.{key}" for key in value if key not in allowed]
    return {key: item for key, item in value.items() if key in allowed}


def _narrow(
    request: Mapping[str, Any], changed: dict[str, Any], name: str, allowed: frozenset[str], held_back: list[str]
) -> None:
    value = request.get(name)
    if isinstance(value, dict):
        part = _kept(value, allowed, name, held_back)
        if part is not None:
            changed[name] = part


def _entries(
    request: Mapping[str, Any],
    changed: dict[str, Any],
    name: str,
    allowed: frozenset[str],
    held_back: list[str],
    *,
    function: bool = False,
) -> None:
    """The objects of a list; an entry that is none stays: the server refuses it with words of its own."""
    entries = request.get(name)
    if not isinstance(entries, list):
        return
    before = len(held_back)
    result = []
    for entry in entries:
        if isinstance(entry, dict):
            narrowed = _kept(entry, allowed, name, held_back)
            entry = entry if narrowed is None else narrowed
            if function and isinstance(inner := entry.get("function"), dict):
                part = _kept(inner, _FUNCTION, f"{name}.function", held_back)
                entry = entry if part is None else {**entry, "function": part}
        result.append(entry)
    if len(held_back) > before:
        changed[name] = result
