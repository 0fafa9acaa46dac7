"""Keys of others at the running proxy: who is let in, what is counted, and that no key is written down anywhere."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmstack.deploy.client_keys import NewKey, add, listed, revoke, rotate
from llmstack.paths import Home
from support.proxy_stand import Answer, ProxyStand, ask, standing
from support.upstream import Anthropic, Asked, Upstream, Wire, aside, hello, say
from support.wait import eventually

CHAT = "/v1/chat/completions"
CLOUD = """
[upstreams.far]
kind = "anthropic"
base_url = "{url}"
[[routes]]
match = "claude-*"
upstream = "far"
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream) -> Iterator[ProxyStand]:
    """A proxy that also writes its captures, with a route to an upstream that speaks Anthropic's API."""
    root, models = tmp_path_factory.mktemp("team") / "home", CLOUD.format(url=module_upstream.url)
    with standing(root, module_upstream.port, "--debug", models=models) as running:
        yield running


def home_of(stand: ProxyStand) -> Home:
    return Home(*(stand.root / name for name in ("config", "state", "data", "cache")))


def key_for(stand: ProxyStand, name: str, **limits: Any) -> NewKey:
    return add(home_of(stand), name, time.time(), **limits)


def used(stand: ProxyStand, name: str) -> int:
    rows = listed(home_of(stand), time.time()).keys
    return next(row.use.tokens for row in rows if row.key.name == name)


@pytest.mark.parametrize("header", ["x-api-key", "Bearer", "bearer-in-small"])
def test_a_key_is_taken_in_every_usual_header_without_a_restart(
    team: ProxyStand, upstream: Upstream, header: str
) -> None:
    header = f"by-{header}"
    made = key_for(team, header)
    team.forget_log()
    scheme = "Bearer" if header == "by-Bearer" else "bearer"
    sent = {"x_api_key": made.secret} if header == "by-x-api-key" else {"authorization": f"{scheme} {made.secret}"}
    answer = team.post(ask(), token=None, **sent)
    assert answer.status == 200 and answer.said == "Hello"
    eventually(lambda: [line.get("key") for line in team.requests()] == [header])
    shown = team.get("/metrics").data.decode()
    assert f'llmstack_key_requests_total{{key="{header}",status="200"}} 1.0' in shown
    assert f'llmstack_key_tokens_total{{key="{header}",kind="in"}} 10.0' in shown
    assert team.post(ask()).status == 200
    eventually(lambda: team.requests()[-1]["key"] == "owner")


def in_chat(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]["type"]


def test_a_model_that_a_key_may_not_ask_for_is_refused_in_the_client_s_own_words(
    team: ProxyStand, upstream: Upstream
) -> None:
    made = key_for(team, "limited", models=["qwen*"])
    refused = team.post(ask(model="claude-opus-4"), token=made.secret)
    assert refused.status == 403 and refused.headers["x-should-retry"] == "false"
    assert refused.json["type"] == "error" and refused.json["error"]["type"] == "permission_error"
    assert "limited" in refused.json["error"]["message"] and "qwen*" in refused.json["error"]["message"]
    assert in_chat(team.post(ask(model="claude-opus-4"), CHAT, token=made.secret)) == (403, "permission_error")
    assert team.post(ask(model="gpt"), "/v1/messages/count_tokens", token=made.secret).status == 403
    assert team.get("/v1/models", token=made.secret).json["data"] == []
    assert team.get("/v1/models/demo-model", token=made.secret).status == 404
    assert upstream.asked == []
    assert team.post(ask(model="qwen3"), token=made.secret).status == 200
    assert team.get("/v1/models").json["data"] != []


async def streamed(asked: Asked, wire: Wire) -> None:
    """What it is asked for: a stream or a whole answer, of either API, with its usage."""
    if asked.path.startswith("/v1/messages"):
        if asked.json.get("stream"):
            await Anthropic.hello(asked, wire)
        else:
            await wire.json({"type": "message", "content": [], "usage": {"input_tokens": 10, "output_tokens": 2}})
    elif asked.path == CHAT and not asked.json.get("stream"):
        message = {"role": "assistant", "content": "Hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await wire.json({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})
    else:
        await hello(asked, wire)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("path", "model"),
    [("/v1/messages", "demo"), (CHAT, "demo"), ("/v1/messages", "claude-x"), (CHAT, "claude-x")],
    ids=["messages", "chat", "messages passed on", "chat translated"],
)
def test_a_day_s_tokens_are_counted_on_every_way_and_then_it_is_a_429_until_the_day_ends(
    team: ProxyStand, upstream: Upstream, stream: bool, path: str, model: str
) -> None:
    upstream.script = streamed
    name = f"k{path[-11:]}-{model}-{stream}".replace("/", ".")
    made = key_for(team, name, tokens_per_day=1)
    body = ask(stream=stream, model=model)
    assert team.post(body, path, token=made.secret).status == 200
    asked = len(upstream.completions)
    refused = team.post(body, path, token=made.secret)
    assert refused.status == 429 and refused.json["error"]["type"] == "rate_limit_error"
    assert "00:00 UTC" in refused.json["error"]["message"] and 0 < int(refused.headers["retry-after"]) <= 86400
    assert len(upstream.completions) == asked, "the upstream is not asked"
    eventually(lambda: used(team, name) > 0)
    assert used(team, name) < 40


def test_counts_and_keys_outlive_the_proxy(tmp_path: Path, upstream: Upstream) -> None:
    stand = ProxyStand(tmp_path / "home", upstream.port)
    stand.start()
    made = key_for(stand, "kim", tokens_per_day=20)
    assert stand.post(ask(), token=made.secret).status == 200
    eventually(lambda: used(stand, "kim") == 12)
    assert stand.process is not None
    stand.process.kill()
    stand.process.wait()
    stand.start()
    try:
        assert stand.post(ask(), token=made.secret).status == 200
        assert stand.post(ask(), token=made.secret).status == 429
    finally:
        stand.stop()
    assert used(stand, "kim") == 24
    assert stand.start().post(ask(), token=made.secret).status == 429
    stand.stop()


def test_rotation_under_load_loses_no_request(team: ProxyStand, upstream: Upstream) -> None:
    """Clients that take up a new key some time after it was made: with the default grace none of them hears of it."""
    secret = [key_for(team, "busy").secret]
    statuses: list[int] = []
    rotating = threading.Event()

    def client() -> None:
        while not rotating.is_set():
            mine = secret[0]
            statuses.extend(team.post(ask(stream=number % 2 == 0), token=mine).status for number in range(3))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        before = len(statuses)
        secret[0] = rotate(home_of(team), "busy", time.time(), grace="10m").secret
        eventually(lambda enough=before + 12: len(statuses) > enough)
    rotating.set()
    for thread in threads:
        thread.join(60)
    assert set(statuses) == {200} and len(statuses) > 40


def test_what_runs_when_a_key_ends_is_finished_and_what_waits_reaches_no_upstream(
    team: ProxyStand, upstream: Upstream
) -> None:
    release = threading.Event()

    async def slow(asked: Asked, wire: Wire) -> None:
        if asked.path != CHAT:
            await aside(asked, wire)
            return
        await asyncio.to_thread(release.wait, 30)
        await wire.stream(say("Hel", "lo"))

    upstream.script = slow
    made = key_for(team, "gone")
    answers: dict[str, Answer] = {}

    def send(text: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.update({text: team.post(ask(text), token=made.secret)}))
        thread.start()
        return thread

    running = send("runs")
    eventually(lambda: len(upstream.completions) == 1)
    waiting = send("waits")
    eventually(lambda: b"llmstack_requests_active 2.0" in _but_this(team))
    revoke(home_of(team), "gone", time.time())
    assert team.post(ask("late"), token=made.secret).status == 401
    release.set()
    running.join(30)
    waiting.join(30)
    assert answers["runs"].status == 200 and answers["runs"].said == "Hello"
    assert answers["waits"].status == 401 and "revoked" in answers["waits"].json["error"]["message"]
    assert len(upstream.completions) == 1


def _but_this(stand: ProxyStand) -> bytes:
    """/metrics counts the request for itself."""
    return stand.get("/metrics").data.replace(b"active 3.0", b"active 2.0")


def test_one_user_s_many_requests_do_not_make_another_wait_for_all_of_them(
    team: ProxyStand, upstream: Upstream
) -> None:
    release = threading.Semaphore(0)

    async def one_by_one(asked: Asked, wire: Wire) -> None:
        if asked.path != CHAT:
            await aside(asked, wire)
            return
        await asyncio.to_thread(release.acquire, timeout=30)
        await wire.stream(say("Hel", "lo"))

    upstream.script = one_by_one
    many, other = key_for(team, "many"), key_for(team, "other")
    threads = [
        threading.Thread(target=team.post, args=(ask(f"many {n}"),), kwargs={"token": many.secret}) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: b"llmstack_requests_active 9.0" in team.get("/metrics").data)
    late = threading.Thread(target=team.post, args=(ask("other"), CHAT), kwargs={"token": other.secret})
    late.start()
    eventually(lambda: b"llmstack_requests_active 10.0" in team.get("/metrics").data)
    assert len(upstream.completions) == 1, "no more is sent to the server than it has slots"
    for _ in range(9):
        release.release()
    for thread in (*threads, late):
        thread.join(30)
    order = [asked.json["messages"][-1]["content"] for asked in upstream.completions]
    assert order[1] == "other" and len(order) == 9


def test_no_key_is_in_a_log_the_figures_a_capture_a_file_or_an_argument(team: ProxyStand, upstream: Upstream) -> None:
    """Also where it was wrong, had ended, came with half a body, or an upstream sends back what it was sent."""

    async def echo(asked: Asked, wire: Wire) -> None:
        if asked.path == CHAT:
            await wire.json({"error": {"message": f"you sent {json.dumps(asked.headers)}"}}, status=500)
        else:
            await aside(asked, wire)

    made = key_for(team, "secretive", models=["m*"])
    newer = rotate(home_of(team), "secretive", time.time(), grace="0")
    assert team.post(ask(), token=newer.secret).status == 200
    assert team.post(ask(), token=made.secret).status == 401
    upstream.script = echo
    answers = [
        team.post(ask(), token=newer.secret),
        team.post(ask(), CHAT, token=newer.secret),
        team.post(b"{", token=newer.secret),
        team.get("/v1/models/x", token=newer.secret),
    ]
    revoke(home_of(team), "secretive", time.time())
    answers.append(team.post(ask(), token=newer.secret))
    answers.append(team.get("/metrics"))
    assert team.process is not None
    eventually(lambda: listed(home_of(team), time.time()).keys[-1].use.requests >= 5)
    places = {str(path): path.read_bytes() for path in team.root.rglob("*") if path.is_file()}
    places["argv"] = Path(f"/proc/{team.process.pid}/cmdline").read_bytes()
    places["environment"] = Path(f"/proc/{team.process.pid}/environ").read_bytes()
    places |= {f"answer {number}": answer.data for number, answer in enumerate(answers)}
    assert any("debug" in place for place in places), "the captures are looked at too"
    for secret in (made.secret, newer.secret):
        words = (secret, secret.removeprefix("sk-llmstack-"))
        assert [place for place, data in places.items() for word in words if word.encode() in data] == []


def test_a_response_is_its_askers_alone(team: ProxyStand, upstream: Upstream) -> None:
    ann, ben = (key_for(team, name).secret for name in ("resp-ann", "resp-ben"))

    def asked(key: str, **body: Any) -> Answer:
        return team.post({"model": "m", "input": "hi", **body}, "/v1/responses", token=key)

    name = asked(ann).json["id"]
    for method in ("GET", "DELETE"):
        assert team.request(method, f"/v1/responses/{name}", token=ben).status == 404
    refused = asked(ben, previous_response_id=name)
    assert refused.status == 400 and "not kept here" in refused.json["error"]["message"]
    assert team.get(f"/v1/responses/{name}", token=ann).status == 200
    assert asked(ann, previous_response_id=name).status == 200


def test_a_completion_of_a_text_counts_for_its_key_as_a_chat_does(team: ProxyStand, upstream: Upstream) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.json({"choices": [{"text": "x"}], "usage": {"prompt_tokens": 60, "completion_tokens": 50}})

    upstream.script = script
    key = key_for(team, "completes", tokens_per_day=100).secret
    body = {"model": "m", "prompt": "The", "max_tokens": 4}
    assert team.post(body, "/v1/completions", token=key).status == 200
    eventually(lambda: used(team, "completes") == 110)
    assert team.post(body, "/v1/completions", token=key).status == 429
