"""Upstreams that are lists of answers, and a question put to them: the proxy's attempts without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from llmstack.catalog.routes import RouteChoice, Target, parse
from llmstack.protocol.errors import Cause, Failure, Refused, from_upstream, unavailable
from llmstack.protocol.request import Translator, decode
from llmstack.proxy.answer_service import AnswerService
from llmstack.proxy.attempt import ProxyContext, Question
from llmstack.proxy.engine_deaths import EngineDeaths
from llmstack.proxy.fallback import Outcome
from llmstack.proxy.shared_answer import SharedAnswer
from llmstack.proxy.tool_ids import ToolIds
from llmstack.warmstart.interface import silent

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
        self.deaths = EngineDeaths(None, silent)

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

    def hidden(self, error: Any) -> Any:
        return error

    def note_health(self, target: Target, *, healthy: bool) -> None:
        self.healthy[target.name] = healthy

    def left_out(self, target: Target) -> frozenset[str]:
        return frozenset(self._left_out)

    def leave_out(self, target: Target, field: str) -> None:
        self._left_out.add(field)


class FakeWarmStart:
    @asynccontextmanager
    async def prefix_ready(self, target: Target, body: Any, conversation: str) -> AsyncIterator[None]:
        yield


class Asked:
    """A question to fake upstreams, and what came of it."""

    def __init__(self, *answers: Response | Failure | Exception, model: str = "m", **body: Any) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.upstreams = FakeUpstreams(*answers)
        live = SimpleNamespace(context=lambda target: None, max_output=lambda target: None, sees=lambda target: True)
        parts: dict[str, Any] = {"live": live, "upstreams": self.upstreams, "warm_starts": FakeWarmStart()}
        parts |= {
            "preflight": None,
            "auditor": None,
            "held_back": None,
            "opened": SimpleNamespace(of=lambda target: frozenset(), learn=_never),
            "tool_calls": SimpleNamespace(ready=_at_once),
        }
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


async def _never(*about: Any) -> bool:
    return False


async def _at_once() -> None:
    return None
