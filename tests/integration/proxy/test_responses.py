"""/v1/responses over a socket, with OpenAI's SDK: what is kept can be looked at, gone on from, and deleted."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from support.proxy_stand import TOKEN, standing
from support.upstream import Upstream, hello


def test_a_response_is_kept_gone_on_from_and_deleted(tmp_path: Path) -> None:
    upstream = Upstream(hello)
    try:
        with standing(tmp_path / "h", upstream.port) as stand:
            client = openai.OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1", max_retries=0)
            first = client.responses.create(model="m", input="hi")
            assert first.output_text == "Hello" and first.status == "completed"
            assert client.responses.retrieve(first.id).output_text == "Hello"
            with client.responses.stream(model="m", input="go", previous_response_id=first.id) as stream:
                assert stream.get_final_response().output_text == "Hello"
            client.responses.delete(first.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(first.id)
            with pytest.raises(openai.BadRequestError, match="not kept here any more"):
                client.responses.create(model="m", input="go", previous_response_id=first.id)
            models = client.models.list().model_dump()
            assert models["models"][0]["slug"] == models["data"][0]["id"]
    finally:
        upstream.close()
    asked = [each.json["messages"] for each in upstream.completions]
    assert [turn["content"] for turn in asked[1]] == ["hi", "Hello", "go"]
