"""PDFs are read beside the event loop, and not for ever."""

from __future__ import annotations

import asyncio
import base64
import json
import threading

import pytest

from llmstack.protocol import pdf, request
from llmstack.proxy import documents


def asked(*data: str) -> bytes:
    blocks = [{"type": "document", "source": {"type": "base64", "data": each}} for each in data]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": blocks}]}
    return json.dumps(body).encode()


async def test_a_document_that_takes_too_long_is_given_up_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = base64.b64encode(b"%PDF- slow").decode()
    release, ticks = threading.Event(), 0
    monkeypatch.setattr(pdf, "_pages", lambda raw: str(release.wait(20)))
    monkeypatch.setattr(documents, "MOST_S", 0.3)
    reader = documents.Documents()
    reading = asyncio.create_task(reader.texts_of(request.decode(asked(slow, slow))))
    while not reading.done():
        await asyncio.sleep(0.01)
        ticks += 1
    release.set()
    assert await reading == {slow: pdf.TOO_LONG}
    assert ticks >= 5
    assert await reader.texts_of(request.decode(asked(slow))) == {slow: pdf.TOO_LONG}, "it is given up for good"


async def test_documents_inside_tool_results_are_found() -> None:
    text = base64.b64encode(b"words of a file").decode()
    body = (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",'
        b'"content":[{"type":"document","source":{"type":"base64","data":"%s"}}]}]}]}' % text.encode()
    )
    assert await documents.Documents().texts_of(request.decode(body)) == {text: "words of a file"}


async def test_a_document_is_read_once_and_the_model_gets_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = base64.b64encode(b"words of a file").decode()
    reader, question = documents.Documents(), request.decode(asked(data))
    first = await reader.texts_of(question)
    monkeypatch.setattr(pdf, "text_of_pdf", None)
    assert await reader.texts_of(question) == first
    chat = request.Translator().to_chat(question, request.Dialect(), first)
    assert "words of a file" in chat.body["messages"][0]["content"]
