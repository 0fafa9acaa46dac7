"""The child that reads a page: `python -m llmstack.proxy.web.read_page MEMORY_BYTES CPU_SECONDS`.

On stdin a PageBytes and the bytes, on stdout a PageText, each behind its length in eight bytes.
"""

from __future__ import annotations

import base64
import codecs
import re
import sys

import msgspec
from justhtml import JustHTML
from justhtml.dom import Node

from llmstack.protocol.pdf import text_of_pdf
from llmstack.protocol.web.hits import one_line, visible
from llmstack.proxy.read_documents import LENGTH, bound_process, framed
from llmstack.proxy.web.page_reader import PageBytes, PageKind, PageText

# Not what a page says: programs, looks, forms, ways to other pages.
_LEFT_OUT = (
    "script, style, noscript, template, svg, math, canvas, iframe, object, embed, form, button, input, select, dialog,"
    " nav, aside, footer, img, picture, video, audio, [hidden], [aria-hidden=true]"
)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def page_text(page: PageBytes, data: bytes) -> PageText:
    if page.kind is PageKind.PDF:
        title, text = "", text_of_pdf(base64.b64encode(data).decode("ascii"))
    elif page.kind is PageKind.HTML:
        title, text = _of_html(data, page.charset)
    else:
        title, text = "", data.decode(_known(page.charset) or "utf-8", "replace")
    text = _BLANK_LINES.sub("\n\n", visible(text.replace("\r\n", "\n"))).strip()
    return PageText(title, text if len(text) <= page.characters else text[: page.characters - 1] + "…")


def _of_html(data: bytes, charset: str) -> tuple[str, str]:
    """The title, and the text of its main part as Markdown."""
    document = JustHTML(data, sanitize=False, encoding=_known(charset) or None)
    titles = document.query("title")
    title = one_line(titles[0].to_text(), 300) if titles else ""
    for node in document.query(_LEFT_OUT):
        if node.parent is not None:
            node.parent.remove_child(node)
    parts: list[Node] = []
    for name in ("main", "article", "body"):
        parts = [node for node in document.query(name) if isinstance(node, Node)]
        if len(parts) == 1 and parts[0].to_text().strip():
            break
    markdown = parts[0].to_markdown() if parts else document.to_markdown()
    return title, markdown


def _known(charset: str) -> str:
    try:
        return codecs.lookup(charset).name if charset else ""
    except LookupError:
        return ""


def _frame() -> bytes:
    return sys.stdin.buffer.read(*LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size)))


def main(argv: list[str]) -> int:
    bound_process(int(argv[0]), int(argv[1]))
    page = msgspec.json.decode(_frame(), type=PageBytes)
    sys.stdout.buffer.write(framed(msgspec.json.encode(page_text(page, _frame()))))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
