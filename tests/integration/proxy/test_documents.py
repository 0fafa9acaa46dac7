"""PDFs are read by a child process, and not for ever."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time

import psutil
import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from llmstack.protocol import pdf, request
from llmstack.proxy import documents


def asked(*data: str) -> bytes:
    blocks = [{"type": "document", "source": {"type": "base64", "data": each}} for each in data]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": blocks}]}
    return json.dumps(body).encode()


def slow_pdf(word: bytes) -> str:
    """About 100 KB that pypdf reads for a quarter of an hour."""
    writer = PdfWriter()
    names = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in names.items()})
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    stream = DecodedStreamObject()
    stream.set_data(b"BT /F1 12 Tf " + b"(%b) Tj 1 0 0 1 0 0 Tm " % word * 500_000 + b"ET")
    content = writer._add_object(stream.flate_encode())
    for _ in range(50):
        page = writer.add_blank_page(612, 792)
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = content
    out = io.BytesIO()
    writer.write(out)
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def slow() -> str:
    return slow_pdf(b"a")


def children() -> list[psutil.Process]:
    """Readers of documents: other tests' managers may have left children of their own to this process."""
    return [child for child in psutil.Process().children() if not child.name().startswith("systemd")]


async def test_all_documents_of_a_request_have_one_time_and_others_go_on(slow: str) -> None:
    reader, ticks = documents.Documents(most_s=2.0), 0
    second = slow_pdf(b"b")
    begun = time.process_time()
    reading = asyncio.create_task(reader.texts_of(request.decode(asked(slow, slow, second))))
    while not reading.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert await reading == {slow: pdf.TOO_LONG, second: pdf.TOO_LONG}
    assert ticks >= 20 and time.process_time() - begun < 1.0, "not a step of it was done here"
    assert children() == [], "the child was killed"
    assert reader.all_remembered(request.decode(asked(slow))), "it is given up for good"
    assert not reader.all_remembered(request.decode(asked(second))), "it had no time of its own yet"


async def test_a_reader_that_runs_out_of_memory_or_dies_costs_its_document_alone(slow: str) -> None:
    reader = documents.Documents(memory=1)
    plain = base64.b64encode(b"words of a file").decode()
    texts = await reader.texts_of(request.decode(asked(slow, plain)))
    assert texts == {slow: pdf.ENDED_ITS_READER, plain: "words of a file"}


async def test_a_client_that_leaves_takes_the_reader_with_it_and_the_document_may_be_read_again(slow: str) -> None:
    reader = documents.Documents()
    reading = asyncio.create_task(reader.texts_of(request.decode(asked(slow))))
    for _ in range(1000):
        if children():
            break
        await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait([reading])
    assert children() == [] and not reader.all_remembered(request.decode(asked(slow)))


async def test_many_readers_wait_within_their_own_time(slow: str) -> None:
    reader = documents.Documents(most_s=1.0)
    reading = [asyncio.create_task(reader.texts_of(request.decode(asked(slow)))) for _ in range(6)]
    most = 0
    while not all(task.done() for task in reading):
        most = max(most, len(children()))
        await asyncio.sleep(0.01)
    assert most <= documents.CHILDREN
    assert [await task for task in reading] == [{slow: pdf.TOO_LONG}] * 6


async def test_more_documents_than_a_request_may_have_are_named() -> None:
    many = [base64.b64encode(b"%PDF-" + str(number).encode()).decode() for number in range(102)]
    texts = await documents.Documents().texts_of(request.decode(asked(*many)))
    assert [texts[data] for data in many[100:]] == [pdf.TOO_MANY] * 2 and pdf.TOO_MANY not in [texts[many[0]]]


async def test_a_document_is_read_once_and_the_model_gets_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = base64.b64encode(b"words of a file " * 10_000).decode()
    reader, question = documents.Documents(), request.decode(asked(data))
    first = await reader.texts_of(question)
    monkeypatch.setattr(reader, "_read", None)
    assert await reader.texts_of(question) == first
    chat = request.Translator().to_chat(question, request.Dialect(), first)
    assert "words of a file" in chat.body["messages"][0]["content"]
