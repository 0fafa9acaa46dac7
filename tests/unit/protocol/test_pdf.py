"""PDFs as text: what can be read is read, what cannot is said in one sentence, and nothing a file holds can raise."""

from __future__ import annotations

import base64
import io
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from llmstack.protocol import pdf


def page_of(writer: PdfWriter, words: str) -> None:
    page = writer.add_blank_page(612, 792)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 12 Tf 72 700 Td ({words}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content.flate_encode())


def written(*pages: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    for words in pages:
        page_of(writer, words) if words else writer.add_blank_page(612, 792)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def text_of(raw: bytes) -> str:
    return pdf.text_of_pdf(base64.b64encode(raw).decode())


def test_pages_stand_in_their_order_a_blank_line_apart() -> None:
    assert text_of(written("first page", "second page")) == "first page\n\nsecond page"


def test_a_scan_an_encrypted_file_and_one_that_is_none_are_each_named() -> None:
    assert text_of(written("")) == "[a PDF without text: probably a scan]"
    assert text_of(written("hidden", password="secret")) == pdf.ENCRYPTED
    assert text_of(b"\xff\xfe\x00picture") == "[a document that is neither PDF nor text]"
    assert text_of(b"plain words") == "plain words"
    assert pdf.text_of_pdf("a") == "[a document that could not be decoded]"


def test_a_file_that_only_forbids_changes_is_read() -> None:
    assert text_of(written("open to all", password="")) == "open to all"


def test_a_file_cut_off_in_the_middle_says_so_or_gives_what_is_there() -> None:
    whole = written("first page", "second page")
    assert "damaged PDF" in text_of(whole[:40])


def test_no_more_pages_and_characters_are_read_than_the_bounds_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MOST_PAGES", 2)
    assert text_of(written("one", "two", "three")) == "one\n\ntwo"
    monkeypatch.setattr(pdf, "MOST_TEXT", 4)
    assert text_of(written("a long page", "another")) == "a lo"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_that_a_damaged_file_holds_can_raise(data: st.DataObject) -> None:
    raw = bytearray(written("some words", "and some more"))
    for _ in range(data.draw(st.integers(1, 12))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(text_of(bytes(raw[: data.draw(st.integers(9, len(raw)))])), str)


def test_nothing_of_a_document_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        text_of(written("private words")[:-60])
    assert "private" not in caplog.text
