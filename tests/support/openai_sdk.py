"""OpenAI's official SDK before a server that answers what a test tells it to."""

from __future__ import annotations

import platform

import httpx2
from openai import DefaultHttpxClient, OpenAI

platform.processor()  # asks another program, and remembers: the SDK would ask in the middle of a test


class Answering:
    """The official SDK before a server that answers what it is told to: made once, for it is slow to make."""

    def __init__(self) -> None:
        self._answer = httpx2.Response(200)
        transport = httpx2.MockTransport(lambda request: self._answer)
        http = DefaultHttpxClient(transport=transport)
        self._client = OpenAI(api_key="k", base_url="http://x/v1", max_retries=0, http_client=http)

    def __call__(self, content_type: str, content: bytes) -> OpenAI:
        self._answer = httpx2.Response(200, headers={"content-type": content_type}, content=content)
        return self._client
