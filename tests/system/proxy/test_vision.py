"""Images through the proxy to a real model with a real image encoder, and back out of a saved slot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmstack.warmstart.statefile import read_tokens
from support.claude_code import QUIET, Claude, plain
from support.claude_turns import call, conversation, turn
from support.pictures import WEBP, bmp, gif, jpeg, png
from support.proxy_stand import standing
from support.stack import Stack
from support.upstream import Asked, Upstream
from support.vision import IMAGE_TOKENS, ask, image, text, tokens, write_seeing_model

QUESTION = text("what is it?")
LONG = text("word " * 500)  # a slot that is worth saving


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("seeing")
    stack = Stack.in_folder(folder / "home").with_model(write_seeing_model(folder / "models"))
    stack.up()
    yield stack
    stack.end()


def test_a_model_with_an_encoder_beside_it_is_deployed_with_it(seeing: Stack) -> None:
    record = json.loads((seeing.root / "state" / "stack.json").read_bytes())
    assert record["capabilities"]["vision"] is True
    argv = record["server"]["argv"]
    assert argv[argv.index("-mm") + 1].endswith("/mmproj-F16.gguf")


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (png(), "image/png"),
        (png(1600, 900), "image/png"),
        (jpeg(), "image/jpeg"),
        (gif(), "image/gif"),
        (bmp(), "image/bmp"),
    ],
    ids=["png", "a screenshot", "jpeg", "gif", "bmp"],
)
def test_an_image_is_read(seeing: Stack, data: bytes, media: str) -> None:
    _, plain = ask(seeing, [QUESTION])
    status, answer = ask(seeing, [image(data, media), QUESTION])
    assert status == 200, answer
    assert tokens(answer)[0] >= tokens(plain)[0] + IMAGE_TOKENS
    assert answer["content"][0]["text"].strip()


def test_webp_is_read_where_ffmpeg_is_and_else_the_answer_names_it(seeing: Stack) -> None:
    status, answer = ask(seeing, [image(WEBP, "image/webp"), QUESTION])
    assert status == 200 if shutil.which("ffmpeg") else (status == 400 and "ffmpeg" in answer["error"]["message"])


def test_the_same_image_is_not_read_again_and_another_one_is(seeing: Stack) -> None:
    first = [LONG, image(png(seed=5)), QUESTION]
    ask(seeing, first)
    total, cached = tokens(ask(seeing, first)[1])
    assert cached >= total - 2
    total, cached = tokens(ask(seeing, [LONG, image(png(seed=6)), QUESTION])[1])
    assert 400 < cached <= total - IMAGE_TOKENS


def test_several_images_and_one_in_a_tools_result(seeing: Stack) -> None:
    status, answer = ask(seeing, [image(png(seed=n)) for n in range(3)] + [QUESTION])
    assert status == 200 and tokens(answer)[0] >= 3 * IMAGE_TOKENS
    use = [{"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a.png"}}]
    result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [image(png(seed=9))]}]
    status, answer = ask(seeing, "look", use, result)
    assert status == 200 and tokens(answer)[0] >= IMAGE_TOKENS


def test_tokens_are_counted_as_the_server_counts_them(seeing: Stack) -> None:
    content = [image(png(1600, 900, seed=3)), QUESTION]
    _, counted = ask(seeing, content, path="/v1/messages/count_tokens")
    assert counted["input_tokens"] == tokens(ask(seeing, content)[1])[0]


def test_a_broken_image_is_refused_clearly_and_does_not_poison_what_follows(seeing: Stack) -> None:
    broken = [image(b"\x89PNG\r\n\x1a\n and no more"), QUESTION]
    status, answer = ask(seeing, broken)
    assert status == 400 and "this image cannot be read: the PNG is cut short" in answer["error"]["message"]
    assert ask(seeing, broken, "an answer", "go on")[0] == 200


def test_one_whose_middle_is_damaged_is_refused_once_and_then_left_out(seeing: Stack) -> None:
    data = bytearray(png(200, 200))
    data[60:200] = bytes(140)
    damaged = [image(bytes(data)), QUESTION]
    status, answer = ask(seeing, damaged)
    assert status == 400 and "cannot be decoded" in answer["error"]["message"]
    assert ask(seeing, damaged, "an answer", "go on")[0] == 200
    use = [{"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a.png"}}]
    result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [image(bytes(data))]}]
    assert ask(seeing, "look", use, result)[0] == 200, "the user cannot mend what a tool has read"


def test_an_address_of_this_machine_is_not_fetched(seeing: Stack) -> None:
    block = {"type": "image", "source": {"type": "url", "url": seeing.server_url + "/health"}}
    status, answer = ask(seeing, [block, QUESTION])
    assert status == 400 and "send the image as base64" in answer["error"]["message"]


def test_a_slot_with_an_image_is_warm_after_a_restart(seeing: Stack) -> None:
    asked = [LONG, image(png(seed=21)), text("and what is this?")]
    assert ask(seeing, asked)[0] == 200
    assert seeing.run("down").status == 0
    assert list((seeing.root / "cache" / "slots").glob("*/conversation-*.kv"))
    seeing.up()
    total, cached = tokens(ask(seeing, asked)[1])
    assert cached >= total - 2, "the image and all before it came back from the disk"


def test_a_model_without_an_encoder_is_told_of_the_image_in_words(demo_stack: Stack) -> None:
    status, answer = ask(demo_stack, [image(png(1600, 900)), QUESTION])
    assert status == 200 and tokens(answer)[0] < 100


def test_what_claude_code_reads_from_a_file_is_seen(
    seeing: Stack, tmp_path: Path, upstream: Upstream, claude_code: Path
) -> None:
    """The client's Read of a PNG, through the proxy, into the real engine: only the call of the tool is scripted, since
    the model has nothing to say."""
    claude = Claude(claude_code, tmp_path / "home", tmp_path / "work")
    claude.work.mkdir()
    picture = claude.work / "dot.png"
    picture.write_bytes(png(200, 100))
    reports: list[Any] = []

    def engine(asked: Asked) -> bytes:
        body = {**asked.json, "messages": [m for m in asked.json["messages"] if m["role"] != "system"]}
        body.pop("tools", None)  # the client's 20,000 tokens of tools say nothing about the picture
        body.pop("tool_choice", None)
        headers = {"authorization": f"Bearer {seeing.server_key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{seeing.server_url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            data = bytes(response.read())
        reports.append((asked.json, data))
        return data

    upstream.script = conversation(turn(call("Read", json.dumps({"file_path": str(picture)}))), engine)
    with standing(tmp_path / "stand", upstream.port, capabilities={"vision": True}) as stand:
        done = claude.run(stand, "look at dot.png")
    assert done.status == 0 and "The demo model answers" in done.out, done.err
    sent, answer = reports[-1]
    parts = [part for m in sent["messages"] if isinstance(m["content"], list) for part in m["content"]]
    assert [part["type"] for part in parts].count("image_url") == 1
    assert int(answer.rpartition(b'"prompt_tokens":')[2].split(b",")[0].split(b"}")[0]) > IMAGE_TOKENS


def test_claude_code_sends_an_image_to_the_model_and_its_slot_holds_it(
    seeing: Stack, tmp_path: Path, claude_code: Path
) -> None:
    """Nothing is scripted. Where an image stands, the saved slot has a -1 for each of its tokens."""
    message = {"role": "user", "content": [image(png(120, 80, seed=33)), text("what is in this picture?")]}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | plain(seeing.url, seeing.token) | QUIET
    done = subprocess.run(
        [str(claude_code), "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"],
        env=environment, cwd=tmp_path, input=json.dumps({"type": "user", "message": message}) + "\n", text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "demo model answers" in done.stdout, done.stdout[-2000:] + done.stderr
    seeing.run("down")
    states = [read_tokens(path) for path in (seeing.root / "cache" / "slots").glob("*/conversation-*.kv")]
    seeing.up()
    longest = max((state for state in states if state is not None), key=len)
    assert len(longest) > 10_000 and longest.count(0xFFFFFFFF) >= IMAGE_TOKENS
