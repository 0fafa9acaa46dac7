"""One message through a trial's proxy, and what came back: as a client of the Messages API sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmstack.errors import NotSo
from llmstack.protocol.sse import SSEDecoder
from llmstack.upgrade.trial import TrialStack

_OPEN = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}


@dataclass(frozen=True, slots=True)
class Reply:
    """status: of HTTP; 200 with `error` where a stream broke off. faults: what is wrong with the stream's form.

    prompt and cached: tokens of the prompt, and those of it that were not computed. deltas: by kind of block.
    is_cut: it came to its limit of tokens.
    """

    status: int
    error: str = ""
    stop_reason: str = ""
    blocks: tuple[dict[str, Any], ...] = ()
    prompt: int = 0
    cached: int = 0
    deltas: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    is_cut: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in self.blocks if block["type"] == "text")

    @property
    def calls(self) -> tuple[dict[str, Any], ...]:
        return tuple(block for block in self.blocks if block["type"] == "tool_use")

    @property
    def why(self) -> str:
        """What went wrong, in the server's words."""
        return self.error or (f"status {self.status}" if self.status != 200 else "; ".join(self.faults))


@dataclass(slots=True)
class Talk:
    """Asks one trial. patience_s: an answer that has not begun by then is let go (`Reply.status` 0)."""

    trial: TrialStack
    patience_s: float = 3000.0

    def ask(self, messages: Sequence[Any], *, max_tokens: int = 64, session: str = "trial", **more: Any) -> Reply:
        """messages: a text becomes a user's turn. Raises NotSo when nobody answers at all."""
        import httpx

        turns = [{"role": "user", "content": turn} if isinstance(turn, str) else turn for turn in messages]
        body = {
            "model": self.trial.model, "max_tokens": max_tokens, "temperature": 0, "stream": True, "messages": turns,
            **more,
        }  # fmt: skip
        headers = {"x-api-key": self.trial.token, "x-claude-code-session-id": session}
        reading = _Reading(max_tokens)
        began = time.monotonic()
        try:
            with httpx.stream(
                "POST", f"{self.trial.url}/v1/messages", json=body, headers=headers, timeout=3000, trust_env=False
            ) as response:
                if response.status_code != 200:
                    return Reply(response.status_code, _message(response.read()))
                decoder = SSEDecoder()
                for piece in response.iter_bytes():
                    for payload in decoder.receive_data(piece):
                        reading.event(json.loads(payload))
                    if not reading.begun and time.monotonic() - began > self.patience_s:
                        return Reply(0)
        except httpx.HTTPError as error:
            if self.trial.pids:
                return Reply(200, f"the stream broke off: {error}")
            raise NotSo("the trial's proxy ended", why=f"its log: {self.trial.log}") from None
        return reading.reply()


class _Reading:
    """Events of one stream, held against the order that the Messages API gives."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self.begun = False  # content came: the prompt was read
        self._blocks: dict[int, dict[str, Any]] = {}
        self._open: int | None = None
        self._ended = False
        self._usage: dict[str, int] = {}
        self._deltas: dict[str, int] = {}
        self._faults: list[str] = []
        self._stop, self._error = "", ""

    def event(self, event: dict[str, Any]) -> None:
        kind = event.get("type", "")
        if self._ended and kind != "ping":
            self._faults.append(f"{kind} behind the end")
        if kind == "message_start":
            self._usage |= _counts(event["message"].get("usage"))
        elif kind == "content_block_start":
            self.begun = True
            if self._open is not None:
                self._faults.append("a block was opened inside another")
            self._open = event["index"]
            self._blocks[event["index"]] = dict(event["content_block"]) | {"json": ""}
        elif kind == "content_block_delta":
            self._delta(event["index"], event["delta"])
        elif kind == "content_block_stop":
            if self._open != event["index"]:
                self._faults.append("a block was closed that was not open")
            self._open = None
        elif kind == "message_delta":
            self._stop = event["delta"].get("stop_reason") or self._stop
            self._usage |= _counts(event.get("usage"))
        elif kind == "message_stop":
            self._ended = True
        elif kind == "error":
            self._error = str(event.get("error", {}).get("message", event))[:300]

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.get(index)
        named = _OPEN.get(delta["type"])
        if block is None or index != self._open or (named is not None and named != block["type"]):
            self._faults.append(f"a {delta['type']} outside its block")
            return
        self._deltas[block["type"]] = self._deltas.get(block["type"], 0) + 1
        for name, target in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json")):
            if name in delta:
                block[target] = block.get(target, "") + delta[name]

    def reply(self) -> Reply:
        blocks = []
        is_cut = self._stop == "max_tokens" or self._usage.get("output_tokens", 0) >= self._max_tokens
        for _, block in sorted(self._blocks.items()):
            text = block.pop("json")
            if block["type"] == "tool_use":
                try:
                    block["input"] = json.loads(text or "{}")
                except ValueError:
                    block["input"] = None
                    if not is_cut:
                        self._faults.append(f"the arguments of {block['name']} are no JSON")
            blocks.append(block)
        if not self._ended and not self._error:
            self._faults.append("the stream has no end")
        cached = self._usage.get("cache_read_input_tokens", 0)
        written = self._usage.get("cache_creation_input_tokens", 0)
        prompt = self._usage.get("input_tokens", 0) + cached + written
        return Reply(
            200, self._error, self._stop, tuple(blocks), prompt, cached, dict(self._deltas), tuple(self._faults), is_cut
        )


def _counts(usage: object) -> dict[str, int]:
    return {name: n for name, n in usage.items() if isinstance(n, int)} if isinstance(usage, dict) else {}


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return data[:300].decode(errors="replace")
