"""Answers a side call for a search or a page without a model, and without a slot of one.

The answer is a SharedAnswer like a model's: an equal request joins it, a client that leaves ends it, and a client that
waits gets signs of life. The first block is there at once; it names what is looked for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llmstack.commands import command_line
from llmstack.errors import StackError
from llmstack.protocol.anthropic import Event, MessagesRequest
from llmstack.protocol.limits import most
from llmstack.protocol.web import answers
from llmstack.protocol.web.calls import WebCall, WebKind, page_wish, query_of, search_wish, web_call
from llmstack.protocol.web.refusal import WebRefused, unavailable
from llmstack.proxy.attempt import first_settings
from llmstack.proxy.fallback import Answered
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.report import RequestRecord, error_location
from llmstack.proxy.shared_answer import SharedAnswer
from llmstack.proxy.web.page_reader import read_page
from llmstack.proxy.web.pages import Pages
from llmstack.proxy.web.searching import SearchBackEnd

Emit = Callable[[list[Event]], None]


@dataclass(slots=True)
class SideCalls:
    """pages: where pages come from."""

    live: LiveConfig
    pages: Pages = field(default_factory=Pages)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(most("web_calls")))

    def served(self, request: MessagesRequest) -> WebCall | None:
        """The side call that a request is, where the user has switched its kind on."""
        call, web = web_call(request), self.live.web
        if call is None:
            return None
        return call if (web.fetch if call.kind is WebKind.FETCH else web.service) else None

    async def answer(self, call: WebCall, model: str, record: RequestRecord, answer: SharedAnswer) -> Answered:
        """record: of the request that began it; what came of it is written there."""
        answer.try_upstream("proxy", "")
        answer.emit(answer.open_stream(first_settings(model)).keepalive())  # message_start
        record.web = call.kind.value
        tool_id = f"srvtoolu_{secrets.token_hex(12)}"
        try:
            if call.kind is WebKind.SEARCH:
                events = await self._search(call, tool_id, answer.emit)
            else:
                events = await self._page(call, tool_id, answer.emit)
            record.web_result = "ok"
        except WebRefused as refused:
            record.web_result = refused.cause
            events = answers.refused_call(call.kind, tool_id, refused)
        except Exception as error:  # a fault of our own: one line in the log, and its client reads that there is none
            name = type(error).__name__
            self.live.log_event("fault", {"id": record.id, "error": name, "at": error_location(error)})
            record.web_result = "fault"
            events = answers.refused_call(call.kind, tool_id, unavailable(f"The proxy failed ({name}).", "fault"))
        answer.emit(events)
        record.stop_reason = "end_turn"
        return Answered()

    @asynccontextmanager
    async def _place(self, most_s: float) -> AsyncIterator[None]:
        """Raises WebRefused when others take all of them for longer."""
        try:
            async with asyncio.timeout(most_s):
                await self._room.acquire()
        except TimeoutError:
            raise unavailable("Too many searches and pages are under way; try again in a moment.", "busy") from None
        try:
            yield
        finally:
            self._room.release()

    async def _search(self, call: WebCall, tool_id: str, emit: Emit) -> list[Event]:
        query, problem = "", None
        try:
            query = query_of(call)
        except WebRefused as refused:
            problem = refused
        emit(answers.begun(call.name, tool_id, {"query": query}))
        if problem is not None:
            raise problem
        wish = search_wish(call, query)
        back_end = SearchBackEnd(self.live.web, self._key(), self.live.routing.offline)
        async with self._place(back_end.most_s):
            hits = await back_end.search(wish)
        return answers.search_results(tool_id, query, hits)

    def _key(self) -> str:
        """Raises WebRefused where it cannot be read."""
        try:
            return self.live.web_key()
        except StackError as error:
            service = self.live.web.service
            again = command_line("web-search", "use", service)
            raise unavailable(f"The key of {service} cannot be used: {error.what}; `{again}`.", "key") from None

    async def _page(self, call: WebCall, tool_id: str, emit: Emit) -> list[Event]:
        wish, problem = None, None
        try:
            wish = page_wish(call)
        except WebRefused as refused:
            problem = refused
        emit(answers.begun(call.name, tool_id, {"url": wish.address.url if wish is not None else ""}))
        if wish is None:
            raise problem or unavailable("There is no address to fetch.", "invalid")
        if self.live.routing.offline:
            allow = command_line("upstream", "offline", "off")
            raise unavailable(f"models.toml says offline = true; `{allow}` allows pages.", "offline")
        async with self._place(self.pages.most_s):
            page = await self.pages.fetch(wish)
            read = await read_page(page.kind, page.charset, page.data, wish.characters)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return answers.fetched_page(tool_id, page.url, read.title, read.text, now)
