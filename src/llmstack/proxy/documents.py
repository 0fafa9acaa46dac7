"""Documents are read by a child process, before a request is translated: whatever one holds, nothing else waits for it.

| what a document does                  | what happens                                                             |
| ------------------------------------- | ------------------------------------------------------------------------ |
| takes longer than the request has     | the child is killed; the model is told, and it is not tried again        |
| is behind such a one in its request   | the model is told for this time; the next request has time for it anew   |
| takes too much memory, ends the child | the model is told, and it is not tried again                             |
| comes again with the next turn        | its text is remembered, by a digest of its bytes                         |
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from llmstack.protocol import pdf
from llmstack.protocol.anthropic import MessagesRequest
from llmstack.protocol.limits import most
from llmstack.proxy.read_documents import LENGTH, framed
from llmstack.recent import Recent

MOST_S = float(most("document_seconds"))
MOST_REMEMBERED = 4096
MOST_TEXT = 16 * 1024 * 1024  # characters of all texts that are remembered
CHILDREN = 2  # at once: others wait, within their own time
_AT_ONCE = 64 * 1024  # a plain text of this size is decoded here
_DEEP = 8  # a document in a result in a result
_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


def child_environment() -> dict[str, str]:
    """What Python needs, and no key of an upstream."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


class Documents:
    """most_s: for all documents of one request. memory: bytes a child may have."""

    def __init__(
        self, most_text: int = MOST_TEXT, most_s: float = MOST_S, memory: int = most("document_memory")
    ) -> None:
        self._texts: Recent[bytes, str] = Recent(MOST_REMEMBERED, most_size=most_text, size_of=len)
        self._most_s = most_s
        self._memory = memory
        self._room = asyncio.Semaphore(CHILDREN)

    def all_remembered(self, request: MessagesRequest) -> bool:
        """Whether reading them takes no time."""
        return all(_plain(data) is not None or _digest(data) in self._texts for data in _documents(request))

    async def texts_of(self, request: MessagesRequest) -> dict[str, str]:
        """The text of each document of a request, by its base64; of one that was not read, why."""
        texts: dict[str, str] = {}
        unread: list[str] = []
        for number, data in enumerate(dict.fromkeys(_documents(request))):
            text = _plain(data)
            if text is None:
                text = self._texts.get(_digest(data)) if number < most("documents") else pdf.TOO_MANY
            if text is not None:
                texts[data] = text
            else:
                unread.append(data)
        if unread:
            texts |= await self._read(unread)
        return texts

    async def _read(self, unread: list[str]) -> dict[str, str]:
        texts = dict.fromkeys(unread, pdf.TOO_LONG)

        def keep(data: str, text: str) -> None:
            texts[data] = text
            self._texts.put(_digest(data), text)

        try:
            async with asyncio.timeout(self._most_s), self._room:
                while unread:
                    unread = await self._one_child(unread, keep)
        except TimeoutError:
            pass  # each has its sentence already
        except OSError:  # no process can be started now
            texts |= {data: pdf.NOT_READ for data in unread if texts[data] == pdf.TOO_LONG}
        return texts

    async def _one_child(self, unread: list[str], keep: Callable[[str, str], None]) -> list[str]:
        """What is left to be read when the child has ended: by itself, or by what it read."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "llmstack.proxy.read_documents"),
            *(str(self._memory), str(max(1, round(self._most_s)))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(),
        )
        assert child.stdin is not None and child.stdout is not None
        left, clock = list(unread), asyncio.get_running_loop().time
        begun = clock()
        try:
            while left:
                begun = clock()
                child.stdin.write(framed(left[0].encode("utf-8", "replace")))
                await child.stdin.drain()
                (length,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
                keep(left[0], (await child.stdout.readexactly(length)).decode("utf-8", "replace"))
                del left[0]
        except (asyncio.IncompleteReadError, ConnectionError):
            keep(left[0], pdf.ENDED_ITS_READER)
            del left[0]
        except asyncio.CancelledError:
            if clock() - begun > self._most_s / 2:  # otherwise it was its neighbours that took the time
                keep(left[0], pdf.TOO_LONG)
            raise
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await asyncio.shield(child.wait())
        return left


def _plain(data: str) -> str | None:
    """The text of a small document that is none to be parsed."""
    if len(data) > _AT_ONCE:
        return None
    with suppress(binascii.Error, ValueError):
        if pdf.is_pdf(base64.b64decode(data, validate=False)):
            return None
    return pdf.text_of_pdf(data)


def _digest(data: str) -> bytes:
    return hashlib.sha256(data.encode("utf-8", "replace")).digest()


def _documents(request: MessagesRequest) -> Iterator[str]:
    for message in request.messages:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            if block.type == "document":
                yield from _data(block.source)
            elif block.type.endswith("_result"):
                yield from _inside(block.content)


def _inside(content: Any, depth: int = 0) -> Iterator[str]:
    """Of a tool's result: in its list, or in the page that a tool of Anthropic's has fetched."""
    if depth < _DEEP:
        if isinstance(content, list):
            for inner in content:
                yield from _inside(inner, depth + 1)
        elif isinstance(content, dict):
            if content.get("type") == "document":
                yield from _data(content.get("source"))
            else:
                yield from _inside(content.get("content"), depth + 1)


def _data(source: Any) -> Iterator[str]:
    if isinstance(source, dict) and source.get("type") == "base64" and isinstance(source.get("data"), str):
        yield source["data"]
