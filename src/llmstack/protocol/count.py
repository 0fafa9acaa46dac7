"""How many tokens a prompt can have at most, and about how many it has, without asking anybody.

A token of any llama.cpp vocabulary that is not special stands for at least one byte of text, so bytes bound tokens.
What a chat template adds is bounded from the templates that are known: less than 2 KB once, 64 bytes a message, and
for each separator of a tool's JSON one more space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEMPLATE_TOKENS = 2048
MESSAGE_TOKENS = 64
BYTES_PER_TOKEN = 3.6  # English and code with current vocabularies: 3.3 to 4.2


def json_bound(data: bytes) -> int:
    """Tokens of JSON that a template may print with spaces and with escapes.

    One byte more per separator; a non-ASCII byte may become three of an escape sequence.
    """
    spaces = data.count(b",") + data.count(b":")
    if data.isascii():
        return len(data) + spaces
    return 3 * len(data) + spaces


def upper_bound(message_bytes: int, messages: int, tools: bytes) -> int:
    """Tokens a prompt has at most. message_bytes: the messages as JSON, whose text is never longer than that."""
    return message_bytes + messages * MESSAGE_TOKENS + json_bound(tools) + (TEMPLATE_TOKENS if tools else 256)


def estimate(size: int) -> int:
    """Tokens in `size` bytes of prompt, as a figure to show, not to decide by."""
    return round(size / BYTES_PER_TOKEN)


def media_tokens(images: int) -> int:
    """Tokens of the images, bounded by what current projectors give a picture (mtmd: at most 4096)."""
    return 4096 * images


def media_estimate(images: int) -> int:
    """Tokens of the images, as a figure to show: a screenshot of a million pixels with current projectors."""
    return 1024 * images


def media_of(message: Mapping[str, Any]) -> tuple[int, int]:
    """The images of a chat message, and the bytes of it that are theirs: base64 is no text that is tokenized."""
    content = message.get("content")
    if not isinstance(content, list):
        return 0, 0
    urls = [part["image_url"]["url"] for part in content if part.get("type") == "image_url"]
    return len(urls), sum(len(url) for url in urls if url.startswith("data:"))
