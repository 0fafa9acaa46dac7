"""A real proxy before a server that ends at a word, kept running by llmstack's own supervisor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmstack.process.daemon import BACKOFF_S
from support.mortal_server import LAST_WORDS, MortalServer, mortal
from support.proxy_stand import ask
from support.upstream import Upstream

FALLBACK = """
[upstreams.second]
kind = "openai"
base_url = "http://127.0.0.1:{port}"
[[routes]]
match = "both"
upstream = "local"
fallback = ["second"]
fallback_on = [{causes}]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MortalServer]:
    with mortal(tmp_path / "home") as running:
        yield running


def resend(server: MortalServer, body: dict[str, Any], times: int = 10, path: str = "/v1/messages") -> list[int]:
    """As Claude Code does: again after each 529, and no more after a 400."""
    statuses: list[int] = []
    while len(statuses) < times and (not statuses or statuses[-1] not in (200, 400)):
        server.ready()
        statuses.append(server.stand.post(body, path).status)
    return statuses


@pytest.mark.parametrize("streaming", [True, False])
def test_a_request_that_ends_the_server_twice_is_refused_and_the_next_one_answered(
    server: MortalServer, streaming: bool
) -> None:
    assert resend(server, ask("POISON please", stream=streaming)) == [529, 400]
    answer = server.stand.post(ask("POISON please", stream=streaming))
    error = answer.json["error"]
    assert answer.status == 400 and error["type"] == "invalid_request_error"
    assert "the engine died twice on this request (killed by SIGABRT; " in error["message"]
    assert LAST_WORDS in error["message"] and "secret" not in error["message"]
    server.ready()
    assert server.stand.post(ask("POISON please and more", stream=streaming)).status == 529  # another one
    server.ready()
    assert server.stand.post(ask("hi")).said == "Hello"
    assert server.status.restarts == 3 < len(BACKOFF_S)
    assert server.stand.get("/health").json["deadly"] == {"requests": 1}
    assert "secret" not in server.stand.log_path.read_text()


def test_what_the_conversation_goes_on_with_does_not_reach_the_server(server: MortalServer) -> None:
    assert resend(server, ask("POISON please")) == [529, 400]
    turns = [("user", "POISON please"), ("assistant", "well"), ("user", "go on")]
    messages = [{"role": role, "content": text} for role, text in turns]
    assert server.stand.post(ask(messages=messages)).status == 400
    merged = [{"role": "user", "content": [{"type": "text", "text": text} for text in ("POISON please\n", "go on")]}]
    assert server.stand.post(ask(messages=merged)).status == 400
    assert server.status.restarts == 2


def test_the_same_question_of_a_session_with_other_settings_does_not_reach_it_either(server: MortalServer) -> None:
    """After a 400 Claude Code asks without thinking, then with all tools and another description of its environment."""
    poison = {"role": "user", "content": [{"type": "text", "text": "POISON please"}]}
    bodies = [
        ask(messages=[poison, {"role": "system", "content": f"environment {number}"}], system=f"system {number}")
        for number in range(4)
    ]
    session = {"x_claude_code_session_id": "one"}
    statuses = []
    for body in (bodies[0], *bodies):
        server.ready()
        statuses.append(server.stand.post(body, **session).status)
    assert statuses == [529, 400, 400, 400, 400] and server.status.restarts == 2
    server.ready()
    assert server.stand.post(ask("POISON please"), x_claude_code_session_id="two").status == 529


def test_one_that_ends_the_server_in_the_middle_of_its_answer_is_refused_too(server: MortalServer) -> None:
    """Claude Code asks for the whole answer again after an error event, without streaming."""
    answer = server.stand.post(ask("LATE please"))
    assert answer.events[-1][0] == "error"
    assert resend(server, ask("LATE please", stream=False))[-1] == 400
    assert server.status.restarts == 2


def test_the_openai_api_and_the_counting_of_tokens_are_covered(server: MortalServer) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "POISON please"}]}
    assert resend(server, chat, path="/v1/chat/completions") == [529, 400]
    answer = server.stand.post(chat, "/v1/chat/completions")
    assert answer.json["error"]["type"] == "invalid_request_error" and LAST_WORDS in answer.json["error"]["message"]
    server.ready()
    for _ in range(4):
        assert server.stand.post(ask("POISON to count"), "/v1/messages/count_tokens").status == 200
        server.ready()
    assert server.status.restarts == 4


def test_an_innocent_request_beside_it_is_answered_in_the_end(server: MortalServer) -> None:
    results: dict[str, list[int]] = {}

    def client(text: str) -> None:
        results[text] = resend(server, ask(text))

    clients = [threading.Thread(target=client, args=(text,)) for text in ("SLOW story", "POISON please")]
    for each in clients:
        each.start()
    for each in clients:
        each.join(60)
    assert results["SLOW story"][-1] == 200 and set(results["SLOW story"][:-1]) <= {529}
    assert results["POISON please"][-1] == 400
    assert server.status.restarts == 2
    server.ready()
    assert server.stand.post(ask("SLOW story")).status == 200


def test_a_restart_on_request_lets_it_be_tried_again(server: MortalServer) -> None:
    assert resend(server, ask("POISON please")) == [529, 400]
    server.supervisor.restart(("server",))
    server.ready()
    assert server.stand.post(ask("POISON please")).status == 529
    assert server.status.restarts == 1


def test_a_server_that_is_stopped_on_request_blames_nobody(server: MortalServer) -> None:
    for _ in range(3):
        asking = threading.Thread(target=server.stand.post, args=(ask("SLOW story"),))
        asking.start()
        threading.Event().wait(0.5)
        server.supervisor.restart(("server",))
        asking.join(60)
        server.ready()
    assert server.stand.post(ask("SLOW story")).status == 200 and server.status.restarts == 0


@pytest.mark.parametrize("causes", ['"engine_died"', '"unreachable"'])
def test_another_upstream_is_the_way_out_where_the_route_has_one(tmp_path: Path, causes: str) -> None:
    second = Upstream()
    try:
        with mortal(tmp_path / "home", FALLBACK.format(port=second.port, causes=causes)) as server:
            statuses = resend(server, ask("POISON please", model="both"))
            assert statuses == ([529, 200] if causes == '"engine_died"' else [200])
            server.ready()
            again = server.stand.post(ask("POISON please", model="both"))
            assert again.said == "Hello" and again.headers["x-llmstack-upstream"] == "second"
            server.ready()
            last = server.stand.post(ask("POISON please", model="both"))
            assert last.headers["x-llmstack-fallback"] == "local->second: engine_died"
            assert server.status.restarts == 2
    finally:
        second.close()
