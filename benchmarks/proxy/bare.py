"""A relay with no features, of the same parts: what any proxy in this language costs on this machine.

It decodes and encodes the request, passes the chunks on as text deltas, and does nothing else: no token, no limits,
no tools, no usage, no errors, no log.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
session: list[aiohttp.ClientSession] = []
upstream = sys.argv[1] if len(sys.argv) > 1 else ""


@app.get("/health")
async def health() -> dict[str, str]:
    return {}


@app.post("/v1/messages")
async def messages(request: Request) -> StreamingResponse:
    if not session:
        session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    asked = msgspec.json.decode(await request.body())
    functions = [
        {"type": "function", "function": {"name": t["name"], "parameters": t["input_schema"]}}
        for t in asked.pop("tools", [])
    ]
    body = msgspec.json.encode({**asked, "tools": functions})

    async def relay() -> AsyncIterator[bytes]:
        async with session[0].post(upstream, data=body) as response:
            rest = b""
            async for data in response.content.iter_any():
                out: list[bytes] = []
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event[6:] == b"[DONE]":
                        continue
                    chunk: Any = msgspec.json.decode(event[6:])
                    for choice in chunk["choices"]:
                        text = msgspec.json.encode(choice["delta"].get("content") or "")
                        out.append(
                            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
                            b'"delta":{"type":"text_delta","text":' + text + b"}}\n\n"
                        )
                yield b"".join(out)

    return StreamingResponse(relay(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", log_level="warning", access_log=False)
