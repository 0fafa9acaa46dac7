"""One question along its route, to upstreams that are a list of answers: who is asked again, and what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from llmstack.catalog.routes import RouteChoice, Target, parse
from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, from_upstream, unavailable
from llmstack.protocol.request import Translator, decode
from llmstack.protocol.stream import StreamSettings
from llmstack.proxy.answer_service import AnswerService
from llmstack.proxy.attempt import ProxyContext, Question
from llmstack.proxy.fallback import Answered, Handover, Outcome, Unanswered
from llmstack.proxy.shared_answer import AnswerState, SharedAnswer
from llmstack.proxy.tool_ids import ToolIds

ROUTES = (
    '[upstreams.a]\nkind = "openai"\nbase_url = "http://a"\n[upstreams.b]\nkind = "openai"\nbase_url = "http://b"\n'
    '[upstreams.c]\nkind = "anthropic"\nbase_url = "http://c"\n'
    '[[routes]]\nmatch = "cloud"\nupstream = "a"\nfallback = ["c"]\n'
    '[[routes]]\nmatch = "pictures"\nupstream = "a"\nimages = "refuse"\nfallback = ["b"]\n'
    'fallback_on = ["unsupported"]\n'
    '[[routes]]\nmatch = "*"\nupstream = "a"\nfallback = ["b"]\n'
)
TEXT = b'data: {"choices":[{"delta":{"content":"words"}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Response:
    """An upstream's answer: the pieces of a stream, an error's text, or an error of the connection behind them."""

    content_type = "text/event-stream"

    def __init__(self, *pieces: bytes, status: int = 200, error: str = "", breaks: bool = False) -> None:
        self.status, self.error = status, error
        self.content = self
        self._pieces: Iterator[bytes] = iter(pieces)
        self._breaks = breaks
        self.closed = False

    async def readany(self) -> bytes:
        piece = next(self._pieces, b"")
        if not piece and self._breaks:
            raise ConnectionResetError
        return piece

    def at_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class FakeUpstreams:
    """Answers in their order, or what post() raises."""

    def __init__(self, *answers: Response | Failure | Exception) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.healthy: dict[str, bool] = {}
        self._left_out: set[str] = set()

    def headers(self, target: Target) -> dict[str, str]:
        return {}

    async def post(self, target: Target, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        self.asked.append((target.name, msgspec.json.decode(body)))
        answer = next(self._answers)
        if isinstance(answer, Failure):
            raise Refused(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def failure(self, target: Target, response: Response, *, estimate: int, limit: int) -> Failure:
        return from_upstream(response.status, response.error, name=target.name, estimate=estimate, limit=limit)

    def failure_of(self, target: Target, error: BaseException) -> Failure:
        return unavailable(f"{target.name} closed the connection", Cause.UNREACHABLE)

    def note_health(self, target: Target, *, healthy: bool) -> None:
        self.healthy[target.name] = healthy

    def left_out(self, target: Target) -> frozenset[str]:
        return frozenset(self._left_out)

    def leave_out(self, target: Target, field: str) -> None:
        self._left_out.add(field)


class FakeWarmStart:
    @asynccontextmanager
    async def turn(self, target: Target, body: Any, conversation: str) -> AsyncIterator[None]:
        yield


class Asked:
    """A question to fake upstreams, and what came of it."""

    def __init__(self, *answers: Response | Failure | Exception, model: str = "m", **body: Any) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.upstreams = FakeUpstreams(*answers)
        live = SimpleNamespace(context=lambda target: None, max_output=lambda target: None, sees=lambda target: True)
        parts: dict[str, Any] = {"live": live, "upstreams": self.upstreams, "keeper": FakeWarmStart()}
        parts |= {"preflight": None, "auditor": None, "recall": SimpleNamespace(ready=_at_once)}
        context = ProxyContext(
            **parts,
            translator=Translator(),
            ids=ToolIds(lambda tool_id: False),
            log_event=lambda event, fields: self.log.append((event, fields)),
        )
        self._service = AnswerService(context)
        request = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}], **body}
        route = parse(ROUTES).choose(model)
        self._question = Question(decode(msgspec.json.encode(request)), {}, cast(RouteChoice, route), "req_1")
        self.answer = SharedAnswer(streaming=True, grace_s=0.0, on_finish=lambda answer: None)
        self._listener = self.answer.listen()

    async def outcome(self) -> Outcome:
        return await self._service.answer(self.answer, self._question)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.upstreams.asked]

    @property
    def sent(self) -> bytes:
        return self.answer.take(self._listener)


async def _at_once() -> None:
    return None


async def test_an_answer_is_passed_on_and_its_attempt_keeps_the_facts() -> None:
    response = Response(TEXT, FINISH + DONE)
    asked = Asked(response)
    assert await asked.outcome() == Answered()
    assert b"words" in asked.sent and response.closed
    [record] = asked.answer.attempts
    assert (record.upstream, record.fallback, record.retries) == ("a", "", 0)
    assert record.queue_ms is not None and b'"hi"' in record.sent_body and asked.upstreams.healthy == {"a": True}


async def test_an_upstream_that_cannot_be_reached_gives_its_turn_to_the_next() -> None:
    asked = Asked(unavailable("gone", Cause.UNREACHABLE), Response(TEXT, FINISH))
    assert await asked.outcome() == Answered()
    assert asked.names == ["a", "b"]
    assert [record.fallback for record in asked.answer.attempts] == ["", "a->b: unreachable"]


async def test_a_field_that_is_refused_is_left_out_from_now_on() -> None:
    asked = Asked(Response(status=400, error="unknown field: stream_options"), Response(TEXT, FINISH))
    assert await asked.outcome() == Answered()
    first, second = (body for _, body in asked.upstreams.asked)
    assert "stream_options" in first and "stream_options" not in second and asked.names == ["a", "a"]
    assert asked.answer.attempts[0].retries == 1
    assert ("unsupported", {"upstream": "a", "field": "stream_options"}) in asked.log


async def test_another_400_is_final() -> None:
    asked = Asked(Response(status=400, error="the messages are odd"))
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.message == "a: the messages are odd"
    assert asked.names == ["a"]


async def test_a_parser_that_fails_on_the_models_output_is_asked_once_more() -> None:
    failure = Response(status=500, error="Failed to parse tool call")
    asked = Asked(failure, Response(status=500, error="Failed to parse tool call"))
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.cause is Cause.PARSE and asked.names == ["a", "a"]


async def test_a_connection_that_breaks_before_a_block_gives_its_turn_to_the_next() -> None:
    asked = Asked(Response(b": a comment\n\n", breaks=True), Response(TEXT, FINISH))
    assert await asked.outcome() == Answered() and asked.names == ["a", "b"]


async def test_an_answer_that_ends_before_a_block_is_a_failure() -> None:
    asked = Asked(Response(b": a comment\n\n"))
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.cause is Cause.CUT and asked.names == ["a"]


async def test_a_cut_behind_a_block_is_an_error_event_and_no_fallback() -> None:
    asked = Asked(Response(TEXT, breaks=True))
    assert await asked.outcome() == Answered()
    assert b"event: error" in asked.sent and asked.answer.failure is not None and asked.names == ["a"]


async def test_a_cut_behind_finish_reason_is_a_whole_answer() -> None:
    asked = Asked(Response(TEXT, FINISH, breaks=True))
    assert await asked.outcome() == Answered()
    assert asked.sent.rstrip().endswith(b'{"type":"message_stop"}') and asked.answer.failure is None


async def test_an_anthropic_upstream_is_handed_over_to_and_not_behind_a_keepalive() -> None:
    asked = Asked(unavailable("gone", Cause.UNREACHABLE), model="cloud")
    outcome = await asked.outcome()
    assert isinstance(outcome, Handover)
    assert outcome.target.name == "c" and outcome.fallback == "a->c: unreachable"
    asked = Asked(unavailable("gone", Cause.UNREACHABLE), model="cloud")
    asked.answer.open_stream(StreamSettings("m", "msg_1", lambda upstream_id: upstream_id))
    asked.answer.keepalive()
    assert asked.answer.state is AnswerState.STREAMING
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.final and outcome.failure.cause is Cause.UNREACHABLE


async def test_a_picture_that_one_upstream_refuses_goes_to_the_next_where_the_route_says_so() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    messages = [{"role": "user", "content": [picture]}]
    asked = Asked(Response(TEXT, FINISH), model="pictures", messages=messages)
    assert await asked.outcome() == Answered() and asked.names == ["b"]
    assert asked.answer.attempts[1].fallback == "a->b: unsupported"


async def test_a_fault_of_our_own_is_a_failure_for_the_client_and_a_line_for_us() -> None:
    asked = Asked(ZeroDivisionError())
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.kind is FailureKind.API
    event, fields = asked.log[-1]
    assert event == "fault" and fields["error"] == "ZeroDivisionError" and "test_attempt.py" in fields["at"]
