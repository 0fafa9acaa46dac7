"""Clients of both dialects at a stack, and one upstream of it that cuts, errs and keeps silent."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import httpx

from support.stack import Stack
from support.streams import DONE, event, finish, text, usage
from support.upstream import Asked, Wire

TOOLS = [{"name": "Read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}]
ROUTES = """
[upstreams.odd]
kind = "openai"
base_url = "{url}/v1"
timeout_s = 20.0
[[routes]]
match = "odd"
upstream = "odd"
fallback = ["local"]
"""


async def misbehave(asked: Asked, wire: Wire) -> None:
    """What it does is a matter of the request's bytes."""
    dice = random.Random(asked.body)
    fate = dice.choice(("whole", "whole", "cut", "error", "late", "odd"))
    if fate == "error":
        await wire.json({"error": {"message": "no"}}, dice.choice((400, 429, 500, 503)))
        return
    if fate == "late":
        await asyncio.sleep(dice.random() * 3)
    await wire.begin()
    await wire.send(text("some ", "words "))
    if fate == "cut":
        wire.cut()
        return
    if fate == "odd":
        await wire.send(event({"choices": 7}))
    await wire.send(finish() + usage(9, 3) + DONE)
    await wire.end()


class Clients:
    """outcomes: how requests ended, by kind. until: set when they shall stop."""

    def __init__(self, stack: Stack, seed: int, width: int = 8) -> None:
        self._stack, self._dice, self._width = stack, random.Random(seed), width
        self.outcomes: Counter[str] = Counter()
        self.broken: list[str] = []
        self.until = asyncio.Event()

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=self._width * 2)
        async with httpx.AsyncClient(base_url=self._stack.url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(self._worker(client) for _ in range(self._width)))

    async def _worker(self, client: httpx.AsyncClient) -> None:
        while not self.until.is_set():
            try:
                await self._one(client)
            except (httpx.HTTPError, OSError) as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.2)

    async def _one(self, client: httpx.AsyncClient) -> None:
        dice = self._dice
        path = dice.choice(("/v1/messages", "/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens"))
        body: dict[str, Any] = {"model": dice.choice(("odd", "x", "x")), "max_tokens": 16, "messages": [
            {"role": "user", "content": f"question {dice.randrange(10**9)} " + "and more " * dice.randrange(200)}
        ]}  # fmt: skip
        body |= {"stream": True} if dice.random() < 0.7 else {}
        body |= {"tools": TOOLS} if dice.random() < 0.3 and path == "/v1/messages" else {}
        data = json.dumps(body).encode() if dice.random() > 0.03 else b'{"model": '
        leaves = dice.random() < 0.15
        headers = {"x-api-key": self._stack.token, "content-type": "application/json"}
        async with client.stream("POST", path, content=data, headers=headers) as response:
            got = b""
            async for piece in response.aiter_bytes():
                got += piece
                if leaves and len(got) > 50:
                    self.outcomes["left"] += 1
                    return
        self.outcomes[str(response.status_code)] += 1
        if response.status_code == 200 and body.get("stream") and path == "/v1/messages":
            ends = got.count(b'"type":"message_stop"') + got.count(b'{"type":"error"')
            if ends != 1:
                self.broken.append(f"{ends} ends: {got[-200:]!r}")
