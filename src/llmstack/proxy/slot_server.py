"""llama-server's own endpoints for slots and tokens over HTTP: the adapter of warmstart.interface.SlotServer."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from llmstack.catalog.routes import Target, resolve
from llmstack.protocol import sse
from llmstack.protocol.errors import Refused
from llmstack.protocol.json_text import value_of
from llmstack.protocol.limits import most
from llmstack.proxy.death_table import EngineWork, WorkKind
from llmstack.proxy.upstreams import Upstreams, bounded
from llmstack.stackfile import RunningServer
from llmstack.warmstart import prefix
from llmstack.warmstart.interface import Prefilled, Slot, SlotError
from llmstack.warmstart.prefix import Body

_encode = msgspec.json.Encoder().encode
QUICK_S = 30.0  # /slots waits for the batch that is being computed
TOKENIZE_S = 60.0
SAVE_S = 120.0
_WRONG_SHAPE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, msgspec.DecodeError)


def _state() -> EngineWork:
    return EngineWork(WorkKind.STATE)


def _prefix(tokens: array[int]) -> EngineWork:
    return EngineWork(WorkKind.PREFIX, tokens.tobytes())


@contextmanager
def _shape(path: str) -> Iterator[None]:
    """Around the reading of an answer: one that lacks what is read from it becomes a SlotError."""
    try:
        yield
    except _WRONG_SHAPE as error:
        raise SlotError(f"{path} answered something else: {type(error).__name__}") from None


@dataclass(slots=True)
class HttpSlotServer:
    """upstream: its name in the routes. target: None until `running` has found one."""

    upstreams: Upstreams
    upstream: str
    target: Target | None = None

    def running(self) -> RunningServer | None:
        """An upstream with an address of its own is somebody else's server, whatever its name is."""
        live = self.upstreams.live
        settings = live.routing.upstreams.get(self.upstream)
        if settings is None or settings.base_url is not None:
            return None
        self.target = resolve(self.upstream, settings, None)
        live.refresh_server()  # `up` writes the record, then starts the server, and asks for its warm start at once
        return live.server

    async def props(self) -> dict[str, Any]:
        answer = await self._get("/props")
        if not isinstance(answer, dict):
            raise SlotError("/props answered something else")
        return answer

    async def slots(self) -> list[Slot]:
        answer = await self._get("/slots")
        with _shape("/slots"):
            return [
                Slot(
                    int(entry["id"]),
                    bool(entry.get("is_processing")),
                    int(entry.get("id_task") or 0),
                    int(entry.get("n_prompt_tokens") or 0),
                )
                for entry in answer
            ]

    async def tokens(self, body: Body) -> array[int]:
        def work() -> EngineWork:
            return EngineWork(WorkKind.PREFIX, _encode(body))

        if self.upstreams.deaths.guilty(work):
            raise SlotError("the engine died on this text before")
        with self.upstreams.deaths.working(self._target(), work):
            return await self._tokens(body)

    async def _tokens(self, body: Body) -> array[int]:
        rendered = await self._post("/apply-template", body, TOKENIZE_S)
        with _shape("/apply-template"):
            text = {"content": rendered["prompt"], "add_special": True, "parse_special": True}
        answer = await self._post("/tokenize", text, TOKENIZE_S)
        with _shape("/tokenize"):
            return array("I", answer["tokens"])

    async def count(self, body: Body) -> int:
        return len(await self.tokens(prefix.prompt_of(body)))

    async def count_with_images(self, body: Body) -> int:
        """As the server itself would count this chat request; builds of before that path refuse."""
        answer = await self._post("/v1/chat/completions/input_tokens", body, TOKENIZE_S)
        with _shape("/v1/chat/completions/input_tokens"):
            return int(answer["input_tokens"])

    async def prefill(self, tokens: array[int], progress: Callable[[int, int, int], None]) -> Prefilled:
        """n_predict 0 still samples one token from the last logits; it is not fed back, so the state ends with
        `tokens`."""
        body = {
            "prompt": list(tokens), "n_predict": 0, "cache_prompt": True, "stream": True, "return_progress": True,
        }  # fmt: skip
        target, upstreams = self._target(), self.upstreams
        with upstreams.deaths.working(target, lambda: _prefix(tokens)):
            return await self._prefill(target, body, progress)

    async def _prefill(self, target: Target, body: Body, progress: Callable[[int, int, int], None]) -> Prefilled:
        upstreams = self.upstreams
        try:
            response = await upstreams.post(target, "/completion", _encode(body), upstreams.headers(target))
        except Refused as refused:
            raise SlotError(refused.failure.message) from None
        decoder = sse.SSEDecoder()
        cached = 0
        try:
            if response.status != 200:
                raise SlotError((await upstreams.failure(target, response)).message)
            while data := await response.content.readany():
                for payload in decoder.receive_data(data):
                    chunk = msgspec.json.decode(payload)
                    if step := chunk.get("prompt_progress"):
                        cached = int(step["cache"])
                        progress(int(step["processed"]), int(step["total"]), cached)
                    if chunk.get("error"):
                        raise SlotError(str(chunk["error"]))
                    if chunk.get("stop"):
                        return Prefilled(int(chunk["id_slot"]), cached, int(chunk["tokens_evaluated"]) - cached)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            upstreams.lost(target, error)
            raise SlotError(type(error).__name__) from None
        except _WRONG_SHAPE as error:
            raise SlotError(f"/completion answered something else: {type(error).__name__}") from None
        finally:
            response.close()
        raise SlotError("the answer ended early")

    async def save(self, slot: int, name: str) -> tuple[int, int]:
        with self.upstreams.deaths.working(self._target(), _state):
            answer = await self._post(f"/slots/{slot}?action=save", {"filename": name}, SAVE_S)
        with _shape("save"):
            return int(answer["n_saved"]), int(answer["n_written"])

    async def restore(self, slot: int, name: str) -> int:
        """Into an empty slot: llama-server leaves the cells of a second context (a draft model or MTP block) as they
        were, and refuses the next request over the gap (llama.cpp#28619)."""
        with self.upstreams.deaths.working(self._target(), _state):
            await self._post(f"/slots/{slot}?action=erase", {}, SAVE_S)
            answer = await self._post(f"/slots/{slot}?action=restore", {"filename": name}, SAVE_S)
        with _shape("restore"):
            return int(answer["n_restored"])

    def dies_on_states(self) -> bool:
        return self.upstreams.deaths.guilty(_state)

    def dies_on(self, tokens: array[int]) -> bool:
        return self.upstreams.deaths.guilty(lambda: _prefix(tokens))

    def _target(self) -> Target:
        if self.target is None:
            raise SlotError(f"{self.upstream} is not deployed")
        return self.target

    async def _post(self, path: str, body: Any, timeout_s: float) -> Any:
        try:
            with _shape(path):
                return await self.upstreams.json(self._target(), path, _encode(body), timeout_s)
        except Refused as refused:
            raise SlotError(refused.failure.message) from None

    async def _get(self, path: str) -> Any:
        target, upstreams = self._target(), self.upstreams
        timeout = aiohttp.ClientTimeout(total=QUICK_S)
        try:
            url = upstreams.address(target) + path
            async with upstreams.session().get(
                url, headers=upstreams.headers(target), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise SlotError(f"{path} answered {response.status}")
                return value_of(await bounded(response, most("small_answer")))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.DecodeError, Refused) as error:
            upstreams.lost(target, error)
            raise SlotError(f"{path}: {type(error).__name__}") from None
