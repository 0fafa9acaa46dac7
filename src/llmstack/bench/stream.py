"""Times the first token of a streamed answer, as a client sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmstack.commands import command_line
from llmstack.errors import NotSo
from llmstack.protocol.sse import SSEDecoder

if TYPE_CHECKING:
    import httpx

_MAX_TOKENS = 4


@dataclass(frozen=True, slots=True)
class FirstToken:
    """seconds from the request to the first text; prompt_tokens of which cached_tokens came from the cache."""

    seconds: float
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def hit_ratio(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class Client:
    """The proxy and, for comparison, the server behind it. Connections are kept, so they cost nothing here."""

    def __init__(self, proxy_url: str, token: str, server_url: str, server_key: str, model: str) -> None:
        import httpx

        self._model = model
        self._proxy = httpx.Client(base_url=proxy_url, headers={"x-api-key": token}, timeout=3000, trust_env=False)
        bearer = {"Authorization": f"Bearer {server_key}"}
        self._server = httpx.Client(base_url=server_url, headers=bearer, timeout=3000, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.close()
        self._server.close()

    def through_proxy(self, system: str, text: str, *, max_tokens: int = _MAX_TOKENS) -> FirstToken:
        """POST /v1/messages, streaming. Raises NotSo when it fails."""
        body = {
            "model": self._model,
            "max_tokens": max_tokens,
            "stream": True,
            "system": system,
            "messages": [{"role": "user", "content": text}],
        }
        usage: dict[str, int] = {}
        first = 0.0
        began = time.perf_counter()
        for event in self._events(self._proxy, "/v1/messages", body):
            kind = event.get("type")
            if kind == "content_block_delta" and not first:
                first = time.perf_counter() - began
            elif kind == "message_start":
                usage |= event["message"].get("usage") or {}
            elif kind == "message_delta":
                usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            elif kind == "error":
                raise NotSo(
                    "the proxy broke off a stream", why=str(event.get("error")), next=command_line("logs", "proxy")
                )
        cached = usage.get("cache_read_input_tokens") or 0
        return FirstToken(first or time.perf_counter() - began, (usage.get("input_tokens") or 0) + cached, cached)

    def direct(self, system: str, text: str, *, max_tokens: int = _MAX_TOKENS) -> FirstToken:
        """POST /v1/chat/completions on the server itself, streaming. Raises NotSo when it fails."""
        body = {
            "max_tokens": max_tokens,
            "stream": True,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        }
        first = 0.0
        began = time.perf_counter()
        for event in self._events(self._server, "/v1/chat/completions", body):
            choices = event.get("choices") or [{}]
            if not first and (choices[0].get("delta") or {}).get("content"):
                first = time.perf_counter() - began
        return FirstToken(first or time.perf_counter() - began)

    def _events(self, client: httpx.Client, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The data of each event as it arrives."""
        import httpx

        try:
            with client.stream("POST", path, json=body) as response:
                if response.status_code != 200:
                    raise NotSo(
                        f"{client.base_url}{path.lstrip('/')} answered {response.status_code}",
                        why=response.read()[:300].decode(errors="replace"),
                        next=command_line("logs"),
                    )
                decoder = SSEDecoder()
                for piece in response.iter_bytes():
                    for payload in decoder.receive_data(piece):
                        if payload != b"[DONE]":
                            yield json.loads(payload)
        except httpx.HTTPError as error:
            raise NotSo(f"{client.base_url} broke off", why=str(error), next=command_line("logs")) from None
