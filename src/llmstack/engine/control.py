"""Talks to a running engine: readiness, what it loaded, slots, and timed prompts. Any llama-server will do."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.commands import command_line
from llmstack.errors import NotSo

if TYPE_CHECKING:
    import httpx


class Readiness(enum.StrEnum):
    READY = "ready"
    LOADING = "loading"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class CompletionTimings:
    """What llama-server says of one completion (its `timings`): tokens and milliseconds.

    cached_n: prompt tokens taken from the KV cache; prompt_n: those computed; predicted_n: those generated.
    """

    cached_n: int
    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float

    @property
    def prefill_tps(self) -> float:
        """tokens/s of the computed part of the prompt; 0 when nothing was computed."""
        return self.prompt_n / self.prompt_ms * 1000 if self.prompt_ms > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """tokens/s; the first token comes with the prefill and is not counted."""
        return (self.predicted_n - 1) / self.predicted_ms * 1000 if self.predicted_ms > 0 else 0.0

    @property
    def hit_ratio(self) -> float:
        total = self.cached_n + self.prompt_n
        return self.cached_n / total if total else 0.0


class EngineClient:
    """One engine at base_url; key_file holds its API key (read at each construction, never logged)."""

    def __init__(self, base_url: str, key_file: Path | None = None, *, timeout_s: float = 900.0) -> None:
        import httpx

        headers = {}
        if key_file is not None and key_file.exists():
            headers["Authorization"] = f"Bearer {key_file.read_text().strip()}"
        self.base_url = base_url
        self._forces_calls = True  # until a call that was forced does not come
        self._client: httpx.Client = httpx.Client(
            base_url=base_url, headers=headers, timeout=timeout_s, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readiness(self, timeout_s: float = 2.0) -> Readiness:
        """READY once the model is loaded; LOADING while llama-server answers 503."""
        import httpx

        try:
            status = self._client.get("/health", timeout=timeout_s).status_code
        except httpx.HTTPError:
            return Readiness.UNREACHABLE
        return Readiness.READY if status == 200 else Readiness.LOADING

    def props(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """GET /props: default generation settings, n_ctx of a slot, chat template, modalities, build."""
        answer: dict[str, Any] = self._get("/props", timeout_s)
        return answer

    def slots(self, timeout_s: float = 2.0) -> list[dict[str, Any]]:
        """GET /slots: one record per slot, with n_ctx, is_processing and (once used) n_prompt_tokens."""
        answer = self._get("/slots", timeout_s=timeout_s)
        return answer if isinstance(answer, list) else []

    def complete(
        self, prompt: str | Sequence[int], *, n_predict: int, seed: int = 1, ignore_eos: bool = True
    ) -> CompletionTimings:
        """Runs one prompt (text, or tokens) on /completion and returns its timings. Raises NotSo when it fails."""
        body = {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "n_predict": n_predict,
            "cache_prompt": True,
            "ignore_eos": ignore_eos,
            "seed": seed,
            "temperature": 0.8,
        }
        t = self._post("/completion", body).get("timings", {})
        return CompletionTimings(
            int(t.get("cache_n", 0)),
            int(t.get("prompt_n", 0)),
            float(t.get("prompt_ms", 0.0)),
            int(t.get("predicted_n", 0)),
            float(t.get("predicted_ms", 0.0)),
        )

    def likelihoods(self, prompt: Sequence[int], most: int) -> dict[int, float]:
        """Log-likelihood of the `most` likeliest tokens after this prompt, by token, the end of a text left out.

        Empty where the likeliest is a part of a character: the engine then shows none (process_token,
        tools/server/server-context.cpp). Raises NotSo when it fails.
        """
        body = {
            "prompt": list(prompt), "n_predict": 1, "n_probs": most, "cache_prompt": True, "temperature": 0.0,
            "ignore_eos": True,
        }  # fmt: skip
        places = self._post("/completion", body).get("completion_probabilities") or []
        shown = places[0].get("top_logprobs", []) if places else []
        return {int(one["id"]): float(one["logprob"]) for one in shown}

    def call(self, messages: Sequence[dict[str, Any]], tool: dict[str, Any], *, max_tokens: int) -> Any:
        """The arguments of a forced call of this tool (the OpenAI form) at temperature 0; None where none can be read.

        A template that shows no tools forces none: the arguments are then asked for as an answer of their schema. An
        answer that the engine itself cannot read is none. Raises NotSo when the engine is gone.
        """
        import json

        base = {"messages": list(messages), "temperature": 0.0, "max_tokens": max_tokens, "cache_prompt": True}
        forced = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
        try:
            made = self._message({**base, **forced}) if self._forces_calls else {}
            if made.get("tool_calls"):
                return json.loads(made["tool_calls"][0]["function"]["arguments"])
            self._forces_calls = False
            schema = {"name": tool["function"]["name"], "schema": tool["function"]["parameters"]}
            answer = self._message({**base, "response_format": {"type": "json_schema", "json_schema": schema}})
            return json.loads(answer["content"])
        except (KeyError, TypeError, ValueError):
            return None
        except NotSo:
            if self.readiness() is not Readiness.READY:
                raise
            return None

    def _message(self, body: dict[str, Any]) -> dict[str, Any]:
        choices = self._post("/v1/chat/completions", body).get("choices") or [{}]
        message: dict[str, Any] = choices[0].get("message") or {}
        return message

    def apply_template(self, body: dict[str, Any]) -> str:
        """POST /apply-template: the prompt that a chat request with this body would come to."""
        prompt: str = self._post("/apply-template", body).get("prompt", "")
        return prompt

    def count_tokens(self, text: str) -> int:
        return len(self.tokens(text))

    def tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._post("/tokenize", {"content": text}).get("tokens", [])
        return tokens

    def _get(self, path: str, timeout_s: float = 30.0) -> Any:
        import httpx

        try:
            response = self._client.get(path, timeout=timeout_s)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise self._failure(path, error) from None
        return response.json()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        try:
            response = self._client.post(path, json=body)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise self._failure(path, error) from None
        answer: dict[str, Any] = response.json()
        return answer

    def _failure(self, path: str, error: Exception) -> NotSo:
        detail = str(error)
        response = getattr(error, "response", None)
        if response is not None:
            detail = response.text[:300]
        return NotSo(f"the engine at {self.base_url} failed on {path}", why=detail, next=command_line("logs", "server"))
