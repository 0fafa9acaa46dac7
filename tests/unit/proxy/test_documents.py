"""Which documents a request holds, and that none is read where others wait."""

from __future__ import annotations

import base64
import json

import pytest

from llmstack.protocol import pdf, request
from llmstack.proxy import documents


def asked(*data: str) -> bytes:
    blocks = [{"type": "document", "source": {"type": "base64", "data": each}} for each in data]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": blocks}]}
    return json.dumps(body).encode()


def test_a_document_that_was_not_read_is_never_read_on_the_way_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    data = base64.b64encode(b"%PDF-").decode()
    monkeypatch.setattr("llmstack.protocol.document.text_of_pdf", None)
    chat = request.Translator().to_chat(request.decode(asked(data)), request.Dialect(), {})
    assert pdf.NOT_READ in chat.body["messages"][0]["content"]


async def test_documents_inside_tool_results_are_found() -> None:
    text = base64.b64encode(b"words of a file").decode()
    body = (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",'
        b'"content":[{"type":"document","source":{"type":"base64","data":"%s"}}]}]}]}' % text.encode()
    )
    assert await documents.Documents().texts_of(request.decode(body)) == {text: "words of a file"}
