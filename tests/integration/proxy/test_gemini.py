"""The Gemini API over a socket: streamed, whole, counted, listed, refused, each in Google's words."""

from __future__ import annotations

from typing import Any

from support.proxy_stand import TOKEN, Answer, ProxyStand
from support.streams import DONE, finish, text, tool, usage
from support.upstream import Upstream

BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def call(stand: ProxyStand, method: str, query: str = "", token: str = TOKEN, **fields: Any) -> Answer:
    path = f"/v1beta/models/local-model:{method}{query}"
    return stand.post({**BODY, **fields}, path, token=None, x_goog_api_key=token)


async def looks(asked: Any, wire: Any) -> None:
    pieces = text("I look. "), tool(0, "up1", "read", '{"path":"a"}'), finish("tool_calls"), usage(90, 9, 40), DONE
    await wire.stream(*pieces)


def test_a_stream_is_one_of_events_and_its_last_has_the_figures(stand: ProxyStand, upstream: Upstream) -> None:
    upstream.script = looks
    answer = call(stand, "streamGenerateContent", "?alt=sse")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    events = [event for _, event in answer.events]
    parts = [part for event in events for each in event.get("candidates", ()) for part in each["content"]["parts"]]
    assert parts[0] == {"text": "I look. "} and parts[1]["functionCall"]["args"] == {"path": "a"}
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"
    assert events[-1]["usageMetadata"]["totalTokenCount"] == 99
    assert events[-1]["usageMetadata"]["cachedContentTokenCount"] == 40


def test_an_answer_is_whole_or_a_list_of_one(stand: ProxyStand, upstream: Upstream) -> None:
    upstream.script = looks
    whole = call(stand, "generateContent").json
    (listed,) = call(stand, "streamGenerateContent").json
    assert whole["candidates"][0]["content"]["parts"][0] == listed["candidates"][0]["content"]["parts"][0]
    assert upstream.completions[-1].json["stream"] is True, "the upstream always streams"


def test_prompts_are_counted_and_models_listed(stand: ProxyStand) -> None:
    assert call(stand, "countTokens").json["totalTokens"] > 0
    wrapped = stand.post({"generateContentRequest": BODY}, "/v1beta/models/local-model:countTokens")
    assert wrapped.json["totalTokens"] > 0
    listed = stand.get("/v1beta/models").json["models"]
    assert listed[0]["name"].startswith("models/") and listed[0]["inputTokenLimit"] == 65536
    assert stand.get(f"/v1beta/{listed[0]['name']}").json == listed[0]


def test_what_is_refused_is_refused_in_googles_words(stand: ProxyStand, upstream: Upstream) -> None:
    async def crowded(asked: Any, wire: Any) -> None:
        await wire.json({"error": {"message": "slow down"}}, status=503)

    for answer, status, name in (
        (call(stand, "generateContent", token="wrong"), 401, "UNAUTHENTICATED"),
        (call(stand, "generateContent", contents=3), 400, "INVALID_ARGUMENT"),
        (call(stand, "embedContent"), 404, "NOT_FOUND"),
        (stand.get("/v1beta/files"), 404, "NOT_FOUND"),
    ):
        error = answer.json["error"]
        assert (answer.status, error["code"], error["status"]) == (status, status, name), error
    upstream.script = crowded
    answer = call(stand, "generateContent")
    assert (answer.status, answer.json["error"]["status"]) == (503, "UNAVAILABLE")
    assert {line["path"] for line in stand.requests()} >= {"/v1beta/models/local-model:generateContent"}
    metrics = stand.get("/metrics").data.decode()
    assert 'path="/v1beta/models"' in metrics and "generateContent" not in metrics
