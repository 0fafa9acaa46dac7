"""The paths of the APIs that clients speak, and the words in which each is answered."""

from __future__ import annotations

from typing import Literal

Words = Literal["anthropic", "openai", "gemini"]

GEMINI = "/v1beta/"
# Each path that is a label of a metric, and whether the root names it as one of the APIs.
API_PATHS: dict[str, tuple[Words, bool]] = {
    "/v1/messages": ("anthropic", True),
    "/v1/messages/count_tokens": ("anthropic", False),
    "/v1/models": ("anthropic", True),
    "/v1/chat/completions": ("openai", True),
    "/v1/responses": ("openai", True),
    "/v1/completions": ("openai", True),
    "/v1/embeddings": ("openai", True),
    "/v1/rerank": ("openai", True),
    "/infill": ("openai", False),
    "/tokenize": ("openai", False),
    "/detokenize": ("openai", False),
    f"{GEMINI}models": ("gemini", True),
}
_OTHERS = frozenset({"/", "/health", "/metrics"})
_OPENAI = tuple(path for path, (words, _) in API_PATHS.items() if words == "openai")


def words_of(path: str) -> Words:
    if path.startswith(GEMINI):
        return "gemini"
    return "openai" if path.startswith(_OPENAI) else "anthropic"


def named_paths() -> list[str]:
    """What the root says there is."""
    return [path for path, (_, named) in API_PATHS.items() if named]


def label_of(path: str) -> str:
    """A path that is ours, or `other`: what may be a label."""
    if path.startswith(f"{GEMINI}models/"):
        return f"{GEMINI}models"
    return path if path in API_PATHS or path in _OTHERS else "other"
