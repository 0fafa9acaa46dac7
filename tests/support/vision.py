"""A small model that reads images: the demo's, with an image encoder of made-up weights beside it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from llmstack.demo.model import build_model
from support.models import _text
from support.projectors import small, write_projector
from support.stack import Stack

IMAGE_TOKENS = 16


def write_seeing_model(folder: Path, kind: str = "gemma3") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "seeing.gguf"
    path.write_bytes(b"".join(build_model(_text())))
    write_projector(small(kind), folder / "mmproj-F16.gguf")
    return path


def image(data: bytes, media: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": base64.b64encode(data).decode()}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def ask(stack: Stack, *turns: Any, path: str = "/v1/messages", **more: Any) -> tuple[int, Any]:
    """Status and answer. turns: contents of user and assistant by turns."""
    messages = [{"role": ("user", "assistant")[number % 2], "content": turn} for number, turn in enumerate(turns)]
    body = {"model": "seeing", "max_tokens": 8, "messages": messages, **more}
    headers = {"x-api-key": stack.token, "content-type": "application/json"}
    request = urllib.request.Request(stack.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def tokens(answer: Any) -> tuple[int, int]:
    """Of the prompt: all, and those that were not computed again."""
    usage = answer["usage"]
    cached = int(usage["cache_read_input_tokens"])
    return int(usage["input_tokens"]) + cached, cached
