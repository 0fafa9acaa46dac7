"""A document as text: its title, and what can be read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llmstack.protocol.anthropic import ContentBlock
from llmstack.protocol.errors import Refused, invalid
from llmstack.protocol.pdf import NOT_READ, text_of_pdf


def source_of(block: ContentBlock) -> dict[str, Any]:
    return block.source if isinstance(block.source, dict) else {}


def document_text(block: ContentBlock, documents: Mapping[str, str] | None, where: str) -> str:
    """documents: the texts that were read, by base64; None:
    it is read here, however long that takes."""
    source = source_of(block)
    kind = source.get("type")
    data = source.get("data")
    if kind == "text" and isinstance(data, str):
        body = data
    elif kind == "base64" and isinstance(data, str):
        body = text_of_pdf(data) if documents is None else documents.get(data, NOT_READ)
    elif kind == "content":
        inner = source.get("content")
        body = inner if isinstance(inner, str) else "\n\n".join(b.text for b in blocks_of(inner, where) if b.text)
    elif kind == "url":
        body = f"[document at {source.get('url')}: not fetched]"
    else:
        raise Refused(invalid(f"{where}.source.type: a document can be text, base64, content or url, not {kind!r}"))
    head = f' title="{block.title}"' if block.title else ""
    context = f"{block.context}\n" if block.context else ""
    return f"<document{head}>\n{context}{body}\n</document>"


def blocks_of(value: Any, where: str) -> list[ContentBlock]:
    """A content value of unknown shape as blocks. Raises Refused when it is none."""
    if value is None:
        return []
    if isinstance(value, str):
        return [ContentBlock(type="text", text=value)]
    try:
        return msgspec.convert(value, list[ContentBlock])
    except msgspec.ValidationError as error:
        raise Refused(invalid(f"{where}: {error}")) from error
