"""Content blocks of the client as the parts a chat completion knows.

One rule stands above the others: the same blocks always become the same bytes, or the upstream computes the
conversation again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmstack.protocol.anthropic import ContentBlock, MessagesRequest, Tool
from llmstack.protocol.document import blocks_of, document_text, source_of
from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.images import problem_of, problem_of_url
from llmstack.protocol.loaded_tools import introduction
from llmstack.protocol.told import is_told, told

Images = Literal["pass", "checked", "undecoded", "placeholder", "refuse"]
UNDECODED = "[image left out: the server could not decode it or another one]"
NO_IMAGE = "[image left out: this model reads text only]"
# Claude Code's first system block; three bytes of it differ between sub-agents and side calls.
_BILLING = re.compile(r"\Ax-anthropic-billing-header:(?:[ \t]*[\w.-]+=[^;\n]*(?:;|(?=\n)|\Z))*[ \t]*\n*")


@dataclass(slots=True)
class Parts:
    """Text and images in their order. `content` is a plain string as long as no image is in it."""

    items: list[dict[str, Any]] = field(default_factory=list)

    def text(self, text: str) -> None:
        if text:
            self.items.append({"type": "text", "text": text})

    def image(self, url: str) -> None:
        self.items.append({"type": "image_url", "image_url": {"url": url}})

    def extend(self, other: Parts) -> None:
        self.items += other.items

    @property
    def content(self) -> str | list[dict[str, Any]]:
        if all(item["type"] == "text" for item in self.items):
            return "\n\n".join(item["text"] for item in self.items)
        return self.items

    def __bool__(self) -> bool:
        return bool(self.items)


def without_billing(text: str) -> str:
    return _BILLING.sub("", text, count=1) if text.startswith("x-anthropic-billing-header:") else text


def system_text(system: str | list[ContentBlock] | None) -> str:
    """One string, blocks apart by a blank line, without the billing block."""
    if system is None:
        return ""
    if isinstance(system, str):
        return without_billing(system)
    return text_blocks(system)


def text_blocks(blocks: list[ContentBlock]) -> str:
    """Their texts, without the billing block wherever it stands."""
    texts = [without_billing(block.text) for block in blocks if block.type == "text"]
    return "\n\n".join(text for text in texts if text)


def image_url(block: ContentBlock, where: str) -> str:
    source = source_of(block)
    kind = source.get("type")
    if kind == "base64":
        data, media = source.get("data"), source.get("media_type")
        if not isinstance(data, str) or not isinstance(media, str):
            raise Refused(invalid(f"{where}.source: an image needs media_type and data"))
        return f"data:{media};base64,{data}"
    if kind == "url" and isinstance(source.get("url"), str):
        return str(source["url"])
    raise Refused(invalid(f"{where}.source.type: an image can be base64 or url here, not {kind!r}"))


def add_image(block: ContentBlock, parts: Parts, images: Images, last_turn: bool, where: str) -> None:
    """An image in an earlier turn never makes a request fail: it would make every later one fail as well."""
    url = image_url(block, where)
    problem = _problem(block) if images == "checked" else ""
    if problem and last_turn:
        raise Refused(invalid(f"{where}.source: this image cannot be read: {problem}"))
    if problem:
        parts.text(f"[image left out: {problem}]")
    elif images in ("pass", "checked"):
        parts.image(url)
    elif images == "refuse" and last_turn:
        raise Refused(unsupported("this model reads text only: send the request without the image"))
    else:
        parts.text(UNDECODED if images == "undecoded" else NO_IMAGE)


def sends_image(request: MessagesRequest) -> bool:
    """Whether the newest message has an image of the user's own: one in a tool's result is not."""
    content = request.messages[-1].content if request.messages else ""
    return not isinstance(content, str) and any(block.type == "image" for block in content)


def _problem(block: ContentBlock) -> str:
    source = source_of(block)
    if source.get("type") == "url":
        return problem_of_url(str(source.get("url")))
    return problem_of(str(source.get("media_type")), str(source.get("data")))


def tool_result(
    block: ContentBlock,
    images: Images,
    documents: Mapping[str, str] | None,
    last_turn: bool,
    where: str,
    by_name: Mapping[str, Tool] | None = None,
) -> tuple[str, Parts]:
    """The text of a tool's result, and its images, which no tool message can carry to every upstream.

    by_name: the tools that are introduced where they are loaded.
    """
    texts: list[str] = []
    pictures = Parts()
    for number, inner in enumerate(blocks_of(block.content, f"{where}.content")):
        if inner.type == "text":
            texts.append(inner.text)
        elif inner.type == "image":
            before = len(pictures.items)
            refusable = last_turn and images != "checked"  # the user did not make a tool's image: the model is told
            add_image(inner, pictures, images, refusable, f"{where}.content[{number}]")
            if pictures.items[before]["type"] == "text":
                texts.append(pictures.items.pop()["text"])
            else:
                texts.append("[image: see the next message]")
        elif inner.type == "document":
            texts.append(document_text(inner, documents, f"{where}.content[{number}]"))
        elif inner.type == "tool_reference" and by_name and inner.tool_name in by_name:
            texts.append(introduction(by_name[inner.tool_name]))
        elif is_told(inner.type):
            texts.append(told(inner, documents, f"{where}.content[{number}]"))
        else:
            texts.append(f"[{inner.type}]")
    text = "\n".join(texts)
    return (f"[tool error] {text}" if block.is_error else text), pictures
