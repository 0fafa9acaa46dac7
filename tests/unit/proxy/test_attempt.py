"""One question along its route, to upstreams that are a list of answers: who is asked again, and what comes of it."""

from __future__ import annotations

from llmstack.protocol.errors import Cause, FailureKind, unavailable
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.proxy.fallback import Answered, Handover, Unanswered
from llmstack.proxy.shared_answer import AnswerState
from support.attempts import DONE, FINISH, TEXT, Asked, Response


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


async def test_an_older_image_that_cannot_be_decoded_is_left_out_and_asked_again() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    turns = [{"role": "user", "content": [picture]}, {"role": "assistant", "content": "hm"}]
    unread = Response(status=400, error="Failed to load image or audio file")
    asked = Asked(unread, Response(TEXT, FINISH), messages=[*turns, {"role": "user", "content": "go on"}])
    assert await asked.outcome() == Answered() and asked.names == ["a", "a"]
    first, second = (str(body["messages"]) for _, body in asked.upstreams.asked)
    assert "image_url" in first and "image_url" not in second and "could not decode it" in second


async def test_one_that_was_just_sent_is_an_error() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    unread = Response(status=400, error="Failed to load image or audio file")
    asked = Asked(unread, messages=[{"role": "user", "content": [picture]}])
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.cause is Cause.IMAGE


async def test_a_fault_of_our_own_is_a_failure_for_the_client_and_a_line_for_us() -> None:
    asked = Asked(ZeroDivisionError())
    outcome = await asked.outcome()
    assert isinstance(outcome, Unanswered) and outcome.failure.kind is FailureKind.API
    event, fields = asked.log[-1]
    assert event == "fault" and fields["error"] == "ZeroDivisionError" and "attempts.py" in fields["at"]
