"""What is wrong with an image, and what becomes of one that cannot be read: now, and in a history."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from llmstack.protocol import count
from llmstack.protocol.errors import Refused, from_upstream
from llmstack.protocol.images import problem_of, problem_of_url
from llmstack.protocol.request import Dialect, Translator, decode
from support.pictures import jpeg, png

LOCAL = Dialect(images="checked")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def block(data: bytes | str, media: str = "image/png") -> dict[str, Any]:
    text = data if isinstance(data, str) else b64(data)
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": text}}


def translated(*turns: Any) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": content} for number, content in enumerate(turns)]
    body = {"model": "m", "messages": messages}
    return list(Translator().to_chat(decode(msgspec.json.encode(body)), LOCAL).body["messages"])


@pytest.mark.parametrize(
    "data",
    [
        png(),
        png(300, 200),
        jpeg(),
        b"GIF89a" + bytes(20),
        b"BM" + bytes(60),
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(30),
    ],
    ids=["png", "larger png", "jpeg", "gif", "bmp", "webp"],
)
def test_the_kinds_that_llama_server_decodes_pass(data: bytes) -> None:
    assert problem_of("image/png", b64(data)) == ""


@pytest.mark.parametrize(
    ("data", "media", "problem"),
    [
        ("", "image/png", "empty"),
        ("@@@@", "image/png", "not base64"),
        (b64(png())[:-1], "image/png", "cut short"),
        (b64(png()[:-30]), "image/png", "the PNG is cut short"),
        (b64(b"<svg></svg>!"), "image/svg+xml", "no PNG, JPEG"),
        (b64(b"RIFF\x10\0\0\0WAVEfmt "), "image/webp", "no PNG, JPEG"),
        (b64(b"%PDF-1.7 and so on"), "application/pdf", "is no image"),
    ],
)
def test_what_cannot_be_an_image_is_named(data: str, media: str, problem: str) -> None:
    assert problem in problem_of(media, data)


def test_a_png_with_bytes_behind_its_end_is_one() -> None:
    assert problem_of("image/png", b64(png() + bytes(300))) == ""


@pytest.mark.parametrize("url", ["https://example.org/a.png", "http://8.8.8.8/a.png", "https://a.b.example:8443/x?y"])
def test_a_public_address_may_be_fetched(url: str) -> None:
    assert problem_of_url(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.org/a.png", "/etc/passwd", "data:image/png;base64,AAAA", "http://",
        "http://localhost:5000/health", "http://127.0.0.1/", "http://[::1]/", "http://[fe80::1%25eth0]/",
        "http://10.0.0.3/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data", "http://0.0.0.0/",
        "http://2130706433/", "http://0x7f000001/", "http://127.1/", "http://printer/", "http://nas.local/",
        "http://metadata.google.internal/", "http://foo.localhost./", "http://[",
    ],
)  # fmt: skip
def test_an_address_of_this_machine_or_its_network_is_not_fetched(url: str) -> None:
    assert problem_of_url(url)


def test_an_image_that_cannot_be_read_is_refused_where_it_is_sent() -> None:
    with pytest.raises(Refused, match=r"messages\[0\]\.content\[0\]\.source: this image cannot be read: it is no PNG"):
        translated([block(b"not an image at all")])


def test_in_the_history_it_is_named_and_the_conversation_goes_on() -> None:
    first = translated([block(b"not an image at all")], "an answer", "go on")[0]["content"]
    assert first.startswith("[image left out: it is no PNG")


def test_a_broken_image_in_a_tools_result_is_told_to_the_model() -> None:
    call = [{"type": "tool_use", "id": "t1", "name": "Read", "input": {}}]
    result = [{"type": "tool_result", "tool_use_id": "t1", "content": [block(b"broken, alas")]}]
    for turns in (("look", call, result), ("look", call, result, "I see", "and?")):
        messages = translated(*turns)
        assert any("[image left out: it is no PNG" in str(m["content"]) for m in messages if m["role"] == "tool")


def test_a_refused_image_does_not_refuse_the_users_next_message() -> None:
    messages = [
        {"role": "user", "content": [block(b"not an image")]},
        {"role": "user", "content": "then without it"},
    ]
    body = msgspec.json.encode({"model": "m", "messages": messages})
    sent = Translator().to_chat(decode(body), LOCAL).body["messages"]
    assert "image left out" in str(sent) and "then without it" in str(sent)


def test_several_images_stay_in_their_order() -> None:
    one, two = png(8, 8, 1), png(8, 8, 2)
    parts = translated([block(one), {"type": "text", "text": "and"}, block(two)])[0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text", "image_url"]
    assert parts[2]["image_url"]["url"].endswith(b64(two))


def test_an_image_is_counted_by_its_tokens_and_not_by_its_bytes() -> None:
    message = translated([block(png(2000, 1500)), {"type": "text", "text": "what?"}])[0]
    images, media = count.media_of(message)
    assert images == 1 and media == len(message["content"][0]["image_url"]["url"])
    assert count.media_of({"role": "user", "content": "text"}) == (0, 0)


def test_the_servers_word_for_an_image_it_cannot_decode_becomes_a_sentence() -> None:
    error = {"error": {"code": 400, "message": "Failed to load image or audio file", "type": "invalid_request_error"}}
    message = from_upstream(400, error, name="local").message
    assert "cannot be decoded" in message and "ffmpeg" in message
