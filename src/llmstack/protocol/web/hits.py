"""Results of a search, and texts of pages: everything in them was written by strangers."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import urlsplit

from llmstack.protocol.limits import most

_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_JOINERS = "\u200c\u200d"  # Persian and emoji are written with them
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class WebHit:
    """One result. age: as the back end words it, or ""."""

    title: str
    url: str
    snippet: str = ""
    age: str = ""


def visible(text: str) -> str:
    """Without characters that a reader does not see: controls, marks of direction, tags, halves of surrogate pairs."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        for char in text
        if char in "\n\t" or char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )


def one_line(text: object, limit: int, *, markup: bool = False) -> str:
    """A value as one line of `limit` characters at most. markup: it may hold HTML's tags and entities."""
    if not isinstance(text, str):
        return ""
    text = text[: limit * 4]  # what is cut away needs no cleaning
    if markup:
        text = html.unescape(_MARKUP.sub("", text))
    text = _SPACE.sub(" ", visible(_SPACE.sub(" ", text))).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def web_url(value: object) -> str:
    """An http or https address as it may be shown, or ""."""
    if not isinstance(value, str) or len(value) > most("web_url"):
        return ""
    value = value.strip()
    if visible(value) != value or any(char.isspace() or char in '<>"\\`' for char in value):
        return ""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return ""
    return value if parts.scheme.lower() in ("http", "https") and host and "@" not in parts.netloc else ""


def hit(title: object, url: object, snippet: object = "", age: object = "", *, markup: bool = False) -> WebHit | None:
    """None where there is no address that may be shown."""
    address = web_url(url)
    if not address:
        return None
    return WebHit(
        one_line(title, most("web_title"), markup=markup) or address,
        address,
        one_line(snippet, most("web_snippet"), markup=markup),
        one_line(age, 80),
    )
