"""One question to the stack's model, asked of the proxy as its clients ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from llmstack.commands import command_line
from llmstack.errors import NotSo
from llmstack.protocol.limits import most
from llmstack.protocol.sse import SSEDecoder

SILENCE_S = 120.0  # the proxy says something each 15 s
Progress = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DelegatedQuestion:
    """files: texts by name, put before the prompt, so that a second question about them finds them in the cache."""

    prompt: str
    files: Mapping[str, str]
    max_tokens: int
    think: bool = False

    def body(self, model: str) -> dict[str, Any]:
        """Of a Messages request."""
        parts = [f'<file name="{name}">\n{text}\n</file>' for name, text in self.files.items()]
        content = [{"type": "text", "text": text} for text in (*parts, self.prompt)]
        thinking = {"type": "enabled", "budget_tokens": self.max_tokens // 2} if self.think else {"type": "disabled"}
        return {
            "model": model,
            "max_tokens": self.max_tokens,
            "stream": True,
            "thinking": thinking,
            "messages": [{"role": "user", "content": content}],
        }


@dataclass(frozen=True, slots=True)
class DelegatedAnswer:
    """cut: by max_tokens."""

    text: str
    cut: bool


async def ask(url: str, token: str, model: str, question: DelegatedQuestion, on_progress: Progress) -> DelegatedAnswer:
    """on_progress: gets the characters written so far, with each sign of life. Raises NotSo with what went wrong."""
    headers = {"Authorization": f"Bearer {token}", "anthropic-version": "2023-06-01"}
    timeout = httpx.Timeout(SILENCE_S, connect=10.0)
    pieces: list[str] = []
    size, stop = 0, None
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, trust_env=False) as client:
            async for event in _events(client, question.body(model)):
                kind = event.get("type")
                if kind == "content_block_delta" and event["delta"].get("type") == "text_delta":
                    pieces.append(event["delta"]["text"])
                    size += len(pieces[-1])
                elif kind == "message_delta":
                    stop = event["delta"].get("stop_reason") or stop
                elif kind == "error":
                    raise NotSo(f"the answer broke off: {event['error'].get('message', '')}", next=_logs())
                await on_progress(size)
    except httpx.HTTPError as error:
        raise NotSo(f"the proxy does not answer: {type(error).__name__}", next=command_line("status")) from None
    if stop is None:
        raise NotSo("the answer ended before it was complete", next=_logs())
    return DelegatedAnswer("".join(pieces), stop == "max_tokens")


async def _events(client: httpx.AsyncClient, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    decoder = SSEDecoder()
    async with client.stream("POST", "/v1/messages", json=body) as response:
        if response.status_code != 200:
            data = b""
            async for piece in response.aiter_bytes():
                data = (data + piece)[: most("error_text") * 4]
            raise NotSo(_message(data) or f"the proxy answered {response.status_code}", next=_logs())
        async for piece in response.aiter_bytes():
            for data in decoder.receive_data(piece):
                yield msgspec.json.decode(data, type=dict[str, Any])


def _message(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["error"]["message"])[: most("error_text")]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def _logs() -> str:
    return command_line("logs", "proxy")
