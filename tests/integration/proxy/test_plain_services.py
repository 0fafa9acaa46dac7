"""Embeddings, reranking, completions of a text: passed on by the route of their model, counted, refused in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstack.llama_server.request_fields import FIELDS
from llmstack.proxy.plain_services import PLAIN
from support.proxy_stand import TOKEN, ProxyStand, standing
from support.upstream import Upstream
from support.wait import eventually

MODELS = """
[upstreams.vectors]
kind = "openai"
base_url = "{url}/v1"
[upstreams.clouds]
kind = "anthropic"
base_url = "{url}"
[upstreams.far]
kind = "llama-server"
base_url = "{url}"
[[routes]]
match = "embed-*"
upstream = "vectors"
model = "big"
[[routes]]
match = "claude-*"
upstream = "clouds"
[[routes]]
match = "far-*"
upstream = "far"
"""
VECTOR = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}], "model": "big",
          "usage": {"prompt_tokens": 7, "total_tokens": 7}}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProxyStand, Upstream]]:
    async def script(asked: Any, wire: Any) -> None:
        await wire.json(VECTOR if asked.path.endswith("embeddings") else {"content": "x", "tokens": [1]})

    upstream = Upstream(script)
    with standing(tmp_path_factory.mktemp("h"), upstream.port, models=MODELS.format(url=upstream.url)) as stand:
        yield stand, upstream
    upstream.close()


def test_embeddings_go_where_their_model_is_routed_and_their_tokens_are_counted(
    own: tuple[ProxyStand, Upstream],
) -> None:
    stand, upstream = own
    client = openai.OpenAI(api_key=TOKEN, base_url=f"{stand.url}/v1", max_retries=0)
    found = client.embeddings.create(model="embed-1", input="wool", encoding_format="float")
    assert found.data[0].embedding == [0.5, 1.0]
    asked = upstream.asked[-1]
    assert asked.path == "/v1/embeddings" and asked.json["model"] == "big" and asked.json["input"] == "wool"
    eventually(lambda: any(line["path"] == "/v1/embeddings" for line in stand.requests()))
    (line,) = (line for line in stand.requests() if line["path"] == "/v1/embeddings" and line["status"] == 200)
    assert (line["tokens_in"], line["upstream"]) == (7, "vectors")


@pytest.mark.parametrize(
    ("path", "model", "words"),
    [
        ("/v1/embeddings", "m", "the deployed model answers no embeddings"),
        ("/v1/rerank", "m", "the deployed model answers no ranks of texts"),
        ("/v1/embeddings", "claude-x", "clouds has no API for embeddings"),
        ("/infill", "embed-1", "vectors has no API for text for a gap"),
    ],
)
def test_an_upstream_without_it_says_so(path: str, model: str, words: str, own: tuple[ProxyStand, Upstream]) -> None:
    stand, _ = own
    answer = stand.post({"model": model, "input": "x"}, path)
    assert answer.status == 400 and words in answer.json["error"]["message"], answer.data


@pytest.mark.parametrize("path", PLAIN)
def test_what_is_no_object_is_refused(path: str, own: tuple[ProxyStand, Upstream]) -> None:
    stand, _ = own
    for data in (b"[]", b"3", b"{", b'{"model": 3'):
        answer = stand.post(data, path)
        assert answer.status == 400 and answer.json["error"]["message"], data
    assert stand.get(path).status == 405


FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = st.sampled_from(
    [*sorted(FIELDS)[:12], "prompt", "grammar_triggers", "chat_parser", "id_slot", "lora", "input", "x"]
)


@FEW
@given(
    st.sampled_from(sorted(PLAIN)), st.dictionaries(NAMES, st.sampled_from(["a", 1, [1], {"b": 2}, True]), max_size=6)
)
def test_a_llama_server_gets_no_field_but_those_that_are_named(
    own: tuple[ProxyStand, Upstream], path: str, body: dict[str, Any]
) -> None:
    stand, upstream = own
    before = len(upstream.asked)
    answer = stand.post({**body, "model": "far-1"}, path)
    assert answer.status in (200, 400), answer.data
    service = PLAIN[path]
    for asked in upstream.asked[before:]:
        allowed = service.fields | {"model"} | (FIELDS if service.samples else frozenset())
        assert set(asked.json) <= allowed, asked.json


def test_the_proxys_root_names_them(tmp_path: Path, own: tuple[ProxyStand, Upstream]) -> None:
    stand, _ = own
    assert {"/v1/embeddings", "/v1/completions"} <= set(json.loads(stand.get("/").data)["api"])
