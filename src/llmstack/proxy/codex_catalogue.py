"""A model as Codex wants to hear of it: an entry of `models` in GET /v1/models (its `model_catalog_url`).

Codex 0.171 requires eleven members, and takes the instructions from here in the place of its own. Ours are short: what
they leave out, a small model would not heed, and every token of them is read before the first answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INSTRUCTIONS = """\
You are a coding agent. You run in the user's terminal, in their project, through Codex.

- Look before you change anything: read the files that matter, search with rg, list with ls.
- Change files with the apply_patch tool where you have it. Keep each patch small, and keep to the style of the file.
- Run the project's own tests or the program itself to see whether your change works.
- Do what was asked, all of it and nothing beside it. Never undo what the user has changed themselves.
- When you are done, say in a few sentences what you changed and how you checked it.
"""
_EFFORTS = {
    "none": "answers at once",
    "low": "thinks a little",
    "medium": "thinks as long as it needs",
    "high": "thinks long",
}


def codex_entry(model: Mapping[str, Any]) -> dict[str, Any]:
    """model: an entry of `data`."""
    entry: dict[str, Any] = {
        "slug": model["id"],
        "display_name": model["display_name"],
        "supported_reasoning_levels": [{"effort": name, "description": text} for name, text in _EFFORTS.items()],
        "default_reasoning_level": "none",
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": True,
        "priority": 1,
        "support_verbosity": False,
        "truncation_policy": {"mode": "tokens", "limit": 10000},
        "experimental_supported_tools": [],
        "base_instructions": _INSTRUCTIONS,
        "apply_patch_tool_type": "freeform",
        "supports_parallel_tool_calls": True,
        "input_modalities": ["text"],
    }
    context = model.get("context_window")
    if context:
        entry["context_window"] = entry["max_context_window"] = context
    return entry
