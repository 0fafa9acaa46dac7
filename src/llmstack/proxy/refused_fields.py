"""Which optional field of a request an upstream refused with its 400: it is left out from then on."""

from __future__ import annotations

import re
from collections.abc import Container

_OPTIONAL = (
    "stream_options", "reasoning_effort", "parallel_tool_calls", "top_k", "chat_template_kwargs", "response_format",
    "thinking_budget_tokens", "return_progress", "cache_prompt", "verbose", "response_fields", "reasoning_content",
    "max_tokens", "temperature", "top_p",
)  # fmt: skip
# What a refusal calls a field, where it is not its name: Ollama says `"gemma3" does not support thinking`.
_CALLED = {"reasoning_effort": "reasoning_effort|thinking|think"}
_REFUSAL = re.compile(
    r"unsupported|unknown|unrecognized|not supported|not permitted|extra (?:inputs|fields)|unexpected|does not support",
    re.IGNORECASE,
)


def refused_field(message: str, sent: Container[str], left_out: Container[str]) -> str | None:
    """The field that a refusal's `message` names; None when it names none that was sent and can be left out.

    sent: the fields of the request. left_out: those that are left out already.
    """
    if not _REFUSAL.search(message):
        return None
    for name in _OPTIONAL:
        if name in sent and name not in left_out and re.search(rf"\b(?:{_CALLED.get(name, name)})\b", message):
            return name
    return None
