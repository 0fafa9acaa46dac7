"""PDFs are read beside the event loop, before a request is translated: a long one must not hold up other streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from llmstack.protocol import pdf
from llmstack.protocol.anthropic import MessagesRequest

MOST_S = 30.0


async def read_ahead(asked: MessagesRequest) -> None:
    """What takes longer than MOST_S seconds is given up, and the model is told so."""
    for data in dict.fromkeys(_documents(asked)):
        if pdf.is_known(data):
            continue
        try:
            async with asyncio.timeout(MOST_S):
                await asyncio.to_thread(pdf.text_of_pdf, data)
        except TimeoutError:
            pdf.give_up(data)


def _documents(asked: MessagesRequest) -> Iterator[str]:
    for message in asked.messages:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            if block.type == "document":
                yield from _data(block.source)
            elif block.type == "tool_result" and isinstance(block.content, list):
                for inner in block.content:
                    if isinstance(inner, dict) and inner.get("type") == "document":
                        yield from _data(inner.get("source"))


def _data(source: Any) -> Iterator[str]:
    if isinstance(source, dict) and source.get("type") == "base64" and isinstance(source.get("data"), str):
        yield source["data"]
