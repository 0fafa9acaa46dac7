"""Does the prompt fit? Decided before a header is sent, because only then the client can compact and go on.

Cheap first: bytes bound tokens (protocol/count.py), and a conversation that was counted once only grows by what was
added. When neither decides, llama-server itself renders and tokenizes the prompt: exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from llmstack.catalog.routes import Target
from llmstack.protocol import count
from llmstack.protocol.errors import Refused, too_long
from llmstack.protocol.request import ChatRequest
from llmstack.proxy.slot_server import HttpSlotServer
from llmstack.proxy.upstreams import Upstreams
from llmstack.recent import Recent
from llmstack.warmstart.interface import SlotError

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Counted:
    """tokens: of the prompt, exact or as near as known. most: a bound nothing can exceed. marks: hashes of the
    conversation after each message, to remember what the upstream counted."""

    tokens: int
    most: int
    exact: bool
    marks: tuple[int, ...]


class _Size(NamedTuple):
    """Of one message: bytes of text, and how many images."""

    text: int
    images: int


class Preflight:
    def __init__(self, upstreams: Upstreams, most: int = 4096) -> None:
        self._upstreams = upstreams
        self._tokens: Recent[int, int] = Recent(most)  # by the hash of a conversation up to one of its messages

    async def check(self, target: Target, request: ChatRequest, limit: int | None) -> Counted:
        """Raises Refused with "prompt is too long" when the prompt certainly does not fit into `limit` tokens."""
        marks, sizes = self._marks(request)
        cheap = self._bound(request, marks, sizes)
        if limit is None or cheap.exact or cheap.most < limit:
            if limit is not None and cheap.exact and cheap.tokens >= limit:
                raise Refused(too_long(cheap.tokens, limit))
            return cheap
        exact = await self.exact(target, request)
        if exact is None:
            return cheap
        if exact >= limit:
            raise Refused(too_long(exact, limit))
        self._tokens.put(marks[-1], exact)
        return Counted(exact, exact, True, marks)

    def estimate(self, request: ChatRequest, limit: int) -> Counted:
        """For an upstream that counts nothing beforehand and may cut silently (ollama#17754). Raises Refused.

        By size at first; from the second turn on the upstream's own count of the turn before, and the growth.
        """
        marks, sizes = self._marks(request)
        cheap = self._bound(request, marks, sizes)
        if cheap.tokens >= limit:
            raise Refused(too_long(cheap.tokens, limit))
        return cheap

    async def exact(self, target: Target, request: ChatRequest) -> int | None:
        """Tokens by /apply-template and /tokenize; None when the upstream has no such thing or is not ready."""
        server = HttpSlotServer(self._upstreams, target.name, target)
        try:
            # only the image encoder knows what a picture takes
            return await (server.count_with_images if request.images else server.count)(request.body)
        except SlotError:
            return None

    def rough(self, request: ChatRequest) -> int:
        """Tokens by size, for an upstream that counts nothing."""
        return self._bound(request, *self._marks(request)).tokens

    def learn(self, counted: Counted, prompt_tokens: int) -> None:
        """What the upstream counted itself, for the next turn's bound."""
        if prompt_tokens > 0 and counted.marks:
            self._tokens.put(counted.marks[-1], prompt_tokens)

    def _marks(self, request: ChatRequest) -> tuple[tuple[int, ...], list[_Size]]:
        body = request.body
        # Python's own hash: keyed anew in each process, 64 bits, and five times as fast as the hashes of hashlib.
        # The functions of a toolbox are one object from request to request, so their hash is computed once.
        settings = [body.get(key) for key in ("chat_template_kwargs", "reasoning_effort", "tool_choice")]
        mark = hash((request.toolbox.functions, _encode(settings)))
        marks: list[int] = []
        sizes: list[_Size] = []
        for message in body["messages"]:
            data = _encode(message)
            mark = hash((mark, data))
            marks.append(mark)
            images, media = count.media_of(message)
            sizes.append(_Size(len(data) - media, images))
        return tuple(marks), sizes

    def _bound(self, request: ChatRequest, marks: tuple[int, ...], sizes: list[_Size]) -> Counted:
        added = images = 0
        for number in range(len(marks) - 1, -1, -1):
            before = self._tokens.get(marks[number])
            if before is not None:
                if number == len(marks) - 1:
                    return Counted(before, before, True, marks)
                later = len(marks) - 1 - number
                # The end of that prompt opened an assistant turn; what stands there now is counted in `added`.
                most = before + added + later * count.MESSAGE_TOKENS + count.media_tokens(images)
                likely = before + count.estimate(added) + count.media_estimate(images)
                return Counted(likely, most, False, marks)
            added += sizes[number].text
            images += sizes[number].images
        tools: Any = request.body.get("tools")
        raw = bytes(tools) if tools is not None else b""
        most = count.upper_bound(added, len(sizes), raw) + count.media_tokens(images)
        return Counted(count.estimate(added + len(raw)) + count.media_estimate(images), most, False, marks)
