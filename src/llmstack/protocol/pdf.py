"""The text of a PDF, for models that read text only: pypdf reads it, here it is bounded.

pypdf itself bounds what its filters unpack (75 MB a stream). The same bytes always become the same words. Time and
memory are bounded by the process that this runs in (proxy/read_documents.py): never on an event loop.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging

from llmstack.protocol.limits import most

MOST_PAGES = 1000
MOST_TEXT = most("document_text")
ENCRYPTED = "[an encrypted PDF: its text cannot be read]"
TOO_LONG = "[a PDF that takes too long to read]"
TOO_LARGE = "[a PDF that takes too much memory to read]"
TOO_MANY = "[a document that was left out: the request has too many of them]"
ENDED_ITS_READER = "[a PDF that cannot be read: it ended the program that read it]"
NOT_READ = "[a document that was not read]"


def text_of_pdf(data: str) -> str:
    """data: base64. The text page by page, or a sentence in brackets that says why there is none."""
    try:
        raw = base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError):
        return "[a document that could not be decoded]"
    if not is_pdf(raw):
        try:
            return raw.decode("utf-8")[:MOST_TEXT]
        except UnicodeDecodeError:
            return "[a document that is neither PDF nor text]"
    return _pages(raw)


def is_pdf(raw: bytes) -> bool:
    return b"%PDF-" in raw[:1024]


def _pages(raw: bytes) -> str:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, WrongPasswordError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings quote the document
    texts: list[str] = []
    size = 0
    try:
        reader = PdfReader(io.BytesIO(raw))
        for number in range(min(len(reader.pages), MOST_PAGES)):
            text = reader.pages[number].extract_text().strip()
            size += len(text)
            if text:
                texts.append(text)
            if size > MOST_TEXT:
                break
    except (
        FileNotDecryptedError,
        WrongPasswordError,
        DependencyError,
    ):  # the last: AES needs a package that we do not ask for
        return ENCRYPTED
    except MemoryError:
        return TOO_LARGE
    except Exception as error:  # whatever a damaged file makes of its reader: what was read before still counts
        if not texts:
            return f"[a damaged PDF: its text cannot be read ({type(error).__name__})]"
    return "\n\n".join(texts)[:MOST_TEXT] or "[a PDF without text: probably a scan]"
