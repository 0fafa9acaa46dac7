"""Answers a question along its route: each target is tried as an Attempt, an Anthropic one is handed over."""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.protocol.errors import Cause, Failure, FailureKind, Refused, invalid
from llmstack.proxy.attempt import Attempt, ProxyContext, Question
from llmstack.proxy.fallback import Fallback, Handover, Outcome, Turn, Unanswered
from llmstack.proxy.report import error_location
from llmstack.proxy.shared_answer import AnswerState, SharedAnswer


@dataclass(frozen=True, slots=True)
class AnswerService:
    context: ProxyContext

    async def answer(self, answer: SharedAnswer, question: Question) -> Outcome:
        """Whatever goes wrong becomes a failure the client can read, and a fault of our own one line in the log."""
        log_event = self.context.log_event

        async def attempt(turn: Turn) -> Outcome:
            return await self._attempt(answer, question, turn)

        try:
            return await Fallback(question.route, question.request_id, log_event).first_answer(attempt)
        except Refused as refused:
            return Unanswered(refused.failure)
        except RecursionError:
            return Unanswered(invalid("the request is nested too deeply"))
        except Exception as error:
            name = type(error).__name__
            log_event("fault", {"id": question.request_id, "error": name, "at": error_location(error)})
            return Unanswered(Failure(FailureKind.API, f"the proxy failed ({name})", Cause.MALFORMED))

    async def _attempt(self, answer: SharedAnswer, question: Question, turn: Turn) -> Outcome:
        record = answer.try_upstream(turn.target.name, turn.fallback)
        if turn.target.kind != "anthropic":
            return await Attempt(self.context, question, turn.target, answer, record).run()
        if answer.state is AnswerState.STREAMING:  # its bytes would follow a message_start of ours
            failure = turn.after or Failure(FailureKind.API, "a stream has begun already", Cause.UPSTREAM)
            return Unanswered(failure, final=True)
        return Handover(turn.target, turn.fallback)
