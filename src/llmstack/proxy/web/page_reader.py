"""A page's text, read by a child process: whatever a page holds, nothing else waits for it."""

from __future__ import annotations

import asyncio
import enum
import sys
from contextlib import suppress

import msgspec

from llmstack.protocol.limits import most
from llmstack.protocol.web.refusal import WebRefused
from llmstack.proxy.documents import child_environment
from llmstack.proxy.read_documents import LENGTH, framed


class PageKind(enum.Enum):
    HTML = "html"
    TEXT = "text"
    PDF = "pdf"


class PageText(msgspec.Struct):
    title: str
    text: str


class PageBytes(msgspec.Struct):
    """What the child is given, before the bytes. characters: of the text at most."""

    kind: PageKind
    charset: str
    characters: int


_TEXTS = frozenset(f"application/{name}" for name in ("json", "xml", "yaml", "toml", "javascript"))


def kind_of(content_type: str) -> PageKind | None:
    """None for what is not read."""
    content_type = content_type.lower()
    if content_type in ("text/html", "application/xhtml+xml"):
        return PageKind.HTML
    if content_type == "application/pdf":
        return PageKind.PDF
    if content_type.startswith("text/") or content_type in _TEXTS or content_type.endswith(("+json", "+xml")):
        return PageKind.TEXT if content_type != "image/svg+xml" else None
    return None


async def read_page(
    kind: PageKind,
    charset: str,
    data: bytes,
    characters: int,
    *,
    most_s: float = float(most("web_page_seconds")),
    memory: int = most("document_memory"),
) -> PageText:
    """Raises WebRefused when it takes too much time or memory."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "llmstack.proxy.web.read_page"),
        *(str(memory), str(max(1, round(most_s)))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        async with asyncio.timeout(most_s):
            child.stdin.write(framed(msgspec.json.encode(PageBytes(kind, charset, characters))) + framed(data))
            await child.stdin.drain()
            (length,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
            return msgspec.json.decode(await child.stdout.readexactly(length), type=PageText)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
        sentence = "The page takes too much time or memory to be read."
        raise WebRefused("content_too_large", sentence, "unreadable") from None
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(child.wait())
