"""Ollama's own API, for what its OpenAI API cannot do: the context of a model (docs.ollama.com/api)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from llmstack.errors import NotSo

ENOUGH_TOKENS = 32768  # Claude Code's first request alone has about 18,000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. context: tokens it was loaded with, None when this release does not say."""

    name: str
    context: int | None


def is_ollama(base: str) -> bool:
    """base: without /v1. Whether an Ollama answers there; False as well when nothing does."""
    try:
        answer = httpx.get(f"{base}/api/version", timeout=5, trust_env=False)
        return answer.status_code == 200 and "version" in answer.json()
    except (httpx.HTTPError, ValueError):
        return False


def with_context(base: str, model: str, context: int) -> str:
    """Makes a model that is `model` with num_ctx = context (tokens), and returns its name. Weights are shared.

    Raises NotSo with Ollama's own words.
    """
    name = f"{model}{'-' if ':' in model else ':'}{context // 1024}k"
    request = {"model": name, "from": model, "parameters": {"num_ctx": context}, "stream": False}
    try:
        answer = httpx.post(f"{base}/api/create", json=request, timeout=120, trust_env=False)
    except httpx.HTTPError as error:
        raise NotSo(f"Ollama does not answer at {base}", why=str(error), next="ollama serve") from None
    if answer.status_code != 200:
        raise NotSo(f"Ollama cannot make {name}: {_said(answer)}", next=f"ollama pull {model}")
    return name


def loaded(base: str) -> tuple[Loaded, ...]:
    """What is in memory now; empty when Ollama does not say."""
    try:
        models: list[dict[str, Any]] = httpx.get(f"{base}/api/ps", timeout=5, trust_env=False).json()["models"]
        return tuple(Loaded(str(m["name"]), m.get("context_length")) for m in models)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ()


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
