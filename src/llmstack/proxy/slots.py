"""llama-server's own endpoints for slots and tokens, spoken by the proxy."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import Target
from llmstack.protocol import sse
from llmstack.protocol.errors import Refused
from llmstack.proxy.upstreams import Upstreams
from llmstack.warm.prefix import Body

_encode = msgspec.json.Encoder().encode
QUICK_S = 30.0  # /slots waits for the batch that is being computed
TOKENIZE_S = 60.0
SAVE_S = 120.0


class SlotError(Exception):
    """The server did not do what it was asked; the text is its own."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as /slots shows it. task: the last one it worked on; tokens: what it holds."""

    number: int
    busy: bool
    task: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """slot: where it was computed; cached and computed: tokens."""

    slot: int
    cached: int
    computed: int


@dataclass(slots=True)
class SlotCalls:
    upstreams: Upstreams
    target: Target

    async def props(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._get("/props")
        return answer

    async def slots(self) -> list[Slot]:
        return [
            Slot(
                int(entry["id"]),
                bool(entry.get("is_processing")),
                int(entry.get("id_task") or 0),
                int(entry.get("n_prompt_tokens") or 0),
            )
            for entry in await self._get("/slots")
        ]

    async def tokens(self, body: Body) -> array[int]:
        """The prompt of a chat request in the model's own tokens."""
        rendered = await self._post("/apply-template", body, TOKENIZE_S)
        asked = {"content": rendered["prompt"], "add_special": True, "parse_special": True}
        return array("I", (await self._post("/tokenize", asked, TOKENIZE_S))["tokens"])

    async def prefill(self, tokens: array[int], progress: Callable[[int, int, int], None]) -> Prefilled:
        """Computes these tokens and nothing behind them. progress(done, total, cached).

        n_predict 0 still samples one token from the last logits; it is not fed back, so the state ends with `tokens`.
        """
        asked = {
            "prompt": list(tokens), "n_predict": 0, "cache_prompt": True, "stream": True, "return_progress": True,
        }  # fmt: skip
        target, upstreams = self.target, self.upstreams
        response = await upstreams.post(target, "/completion", _encode(asked), upstreams.headers(target))
        decoder = sse.SSEDecoder()
        cached = 0
        try:
            if response.status != 200:
                raise SlotError((await upstreams.failure(target, response)).message)
            while data := await response.content.readany():
                for payload in decoder.receive_data(data):
                    chunk = msgspec.json.decode(payload)
                    if found := chunk.get("prompt_progress"):
                        cached = int(found["cache"])
                        progress(int(found["processed"]), int(found["total"]), cached)
                    if chunk.get("error"):
                        raise SlotError(str(chunk["error"]))
                    if chunk.get("stop"):
                        return Prefilled(int(chunk["id_slot"]), cached, int(chunk["tokens_evaluated"]) - cached)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SlotError(type(error).__name__) from None
        finally:
            response.close()
        raise SlotError("the answer ended early")

    async def save(self, slot: int, name: str) -> tuple[int, int]:
        """Tokens saved and bytes written."""
        answer = await self._post(f"/slots/{slot}?action=save", {"filename": name}, SAVE_S)
        return int(answer["n_saved"]), int(answer["n_written"])

    async def restore(self, slot: int, name: str) -> int:
        """Tokens restored, into an empty slot: llama-server leaves the cells of a second context (a model or block
        that guesses ahead) as they were, and refuses the next request over the gap (llama.cpp#28619)."""
        await self._post(f"/slots/{slot}?action=erase", {}, SAVE_S)
        answer = await self._post(f"/slots/{slot}?action=restore", {"filename": name}, SAVE_S)
        return int(answer["n_restored"])

    async def _post(self, path: str, body: Any, timeout_s: float) -> Any:
        try:
            return await self.upstreams.json(self.target, path, _encode(body), timeout_s)
        except Refused as refused:
            raise SlotError(refused.failure.message) from None

    async def _get(self, path: str) -> Any:
        target, upstreams = self.target, self.upstreams
        timeout = aiohttp.ClientTimeout(total=QUICK_S)
        try:
            url = upstreams.address(target) + path
            async with upstreams.session().get(url, headers=upstreams.headers(target), timeout=timeout) as response:
                if response.status != 200:
                    raise SlotError(f"{path} answered {response.status}")
                return msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, Refused) as error:
            raise SlotError(f"{path}: {type(error).__name__}") from None
