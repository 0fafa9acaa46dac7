"""What reaches an engine of a client's request: random bodies through the running proxy, and the engine's side read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from llmstack.llama_server.request_fields import WITHHELD
from support.proxy_stand import ProxyStand, ask, standing
from support.request_bodies import anthropic_bodies, openai_bodies, outside
from support.upstream import Asked, Upstream, Wire, hello

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
OWN = {"temperature": 0.5, "id_slot": 3, "grammar_triggers": [{"type": 3, "value": 7}], "chat_parser": "x", "user": "u"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Upstream]:
    """Answers chats, and counts tokens, as llama-server does."""

    async def script(asked: Asked, wire: Wire) -> None:
        answers: dict[str, Any] = {"/apply-template": {"prompt": "hi"}, "/tokenize": {"tokens": [1, 2]}}
        if asked.path in answers:
            await wire.json(answers[asked.path])
        else:
            await hello(asked, wire)

    server = Upstream(script)
    yield server
    server.close()


@pytest.fixture(scope="module")
def stand(engine: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyStand]:
    with standing(tmp_path_factory.mktemp("reach") / "h", engine.port) as running:
        yield running


def received(engine: Upstream) -> list[dict[str, Any]]:
    """What the engine was asked since the last time, except the proxy's own questions about slots and tokens."""
    bodies = [asked.json for asked in engine.asked if asked.body and asked.path != "/tokenize"]
    engine.asked.clear()
    return bodies


@FEW
@given(openai_bodies())
def test_no_field_outside_the_list_reaches_the_engine_from_a_chat_completion(
    engine: Upstream, stand: ProxyStand, body: dict[str, Any]
) -> None:
    engine.asked.clear()
    answer = stand.post(body, "/v1/chat/completions")
    reached = [each for each in received(engine) if "messages" in each]
    assert answer.status in (200, 400) and bool(reached) == (answer.status == 200), answer.data
    assert [outside(each) for each in reached] == [[] for each in reached]
    assert all(each["messages"][0]["content"].startswith("hi") for each in reached)


@FEW
@given(anthropic_bodies())
def test_no_field_outside_the_list_reaches_the_engine_from_a_messages_request(
    engine: Upstream, stand: ProxyStand, body: dict[str, Any]
) -> None:
    engine.asked.clear()
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = stand.post(body, path)
        reached = received(engine)
        assert answer.status in (200, 400), answer.data
        assert bool(reached) == (answer.status == 200), (path, answer.data)
        assert [outside(each) for each in reached if "messages" in each] == [[] for each in reached]


def test_fault_70_a_field_that_is_the_engine_s_own_state_is_held_back_and_named_once(
    engine: Upstream, stand: ProxyStand
) -> None:
    stand.forget_log()
    received(engine)
    for _ in range(2):
        assert stand.post({**ask(stream=False), **OWN}, "/v1/chat/completions").status == 200
    assert [outside(each) for each in received(engine) if "messages" in each] == [[], []]
    named = [line["field"] for line in stand.log if line["event"] == "held_back"]
    assert sorted(set(named) & set(WITHHELD)) == sorted({name for name in named if name != "user"})
    assert len(named) == len(set(named))


def test_what_only_its_own_words_can_say_goes_byte_for_byte(engine: Upstream, stand: ProxyStand) -> None:
    engine.asked.clear()
    body = b'{ "model":"m",  "messages":[{"role":"user","content":"\\u00e9"}], "logprobs" : true }'
    assert stand.post(body, "/v1/chat/completions").status == 200
    assert [asked.body for asked in engine.asked] == [body]


def test_a_grammar_that_waits_for_triggers_is_refused_by_name(engine: Upstream, stand: ProxyStand) -> None:
    engine.asked.clear()
    answer = stand.post({**ask(), "grammar": "root ::= x", "grammar_lazy": True}, "/v1/chat/completions")
    assert answer.status == 400 and "grammar_lazy" in json.dumps(answer.json) and engine.asked == []


def test_an_upstream_of_another_kind_gets_every_field(tmp_path: Path, upstream: Upstream) -> None:
    models = (
        f'[upstreams.far]\nkind = "openai"\nbase_url = "{upstream.url}/v1"\n[[routes]]\nmatch = "m"\nupstream = "far"\n'
    )
    with standing(tmp_path / "h", upstream.port, models=models) as running:
        assert running.post({**ask(), **OWN}, "/v1/chat/completions").status == 200
    reached = upstream.completions[0].json
    assert {name: reached.get(name) for name in OWN} == OWN


def test_what_models_toml_says_goes_to_the_engine_as_it_stands(tmp_path: Path, upstream: Upstream) -> None:
    """extra_body is the owner's word, not a client's."""
    models = '[upstreams.local]\nkind = "llama-server"\nextra_body = { id_slot = 0 }\n'
    with standing(tmp_path / "h", upstream.port, models=models) as running:
        assert running.post({**ask(), "id_slot": 7}, "/v1/chat/completions").status == 200
    assert upstream.completions[0].json["id_slot"] == 0
