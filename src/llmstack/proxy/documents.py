"""PDFs are read beside the event loop, before a request is translated: a long one must not hold up other streams.

A conversation sends its documents again with every turn, so their texts are remembered, by a digest of their bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

from llmstack.protocol import pdf
from llmstack.protocol.anthropic import MessagesRequest
from llmstack.recent import Recent

MOST_S = 30.0
MOST_DOCUMENTS = 4096
MOST_TEXT = 16 * 1024 * 1024  # characters of all texts that are remembered


class Documents:
    def __init__(self, most_text: int = MOST_TEXT) -> None:
        self._texts: Recent[bytes, str] = Recent(MOST_DOCUMENTS, most_size=most_text, size_of=len)

    async def texts_of(self, request: MessagesRequest) -> dict[str, str]:
        """The text of each document of a request, by its base64.

        What takes longer than MOST_S seconds is given up for good, and the model is told so.
        """
        return {data: await self._text(data) for data in dict.fromkeys(_documents(request))}

    async def _text(self, data: str) -> str:
        digest = hashlib.sha256(data.encode("utf-8", "replace")).digest()
        text = self._texts.get(digest)
        if text is None:
            try:
                async with asyncio.timeout(MOST_S):
                    text = await asyncio.to_thread(pdf.text_of_pdf, data)
            except TimeoutError:
                text = pdf.TOO_LONG
            self._texts.put(digest, text)
        return text


def _documents(request: MessagesRequest) -> Iterator[str]:
    for message in request.messages:
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
