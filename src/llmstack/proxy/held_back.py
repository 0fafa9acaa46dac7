"""Fields of a client's request that its upstream is not given: named in the log once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llmstack.catalog.routes import Target
from llmstack.llama_server.request_fields import lost_trigger, reach
from llmstack.protocol.errors import Refused, invalid

MOST_NAMED = 64  # held-back fields in the log: their names are the client's to invent
_NAME_LENGTH = 60


class HeldBack:
    def __init__(self, log_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._log_event = log_event
        self._named: set[tuple[str, str]] = set()  # upstream and field

    def passed(self, target: Target, request: dict[str, Any]) -> dict[str, Any]:
        """What a llama-server is given of this; the same object where that is all of it. Raises Refused."""
        if lost_trigger(request):
            raise Refused(
                invalid(
                    "grammar_lazy: this proxy passes no grammar_triggers on, and without them the grammar would hold "
                    "from the first token; send tools or response_format, or a grammar without grammar_lazy"
                )
            )
        passed, held_back = reach(request)
        self.note(target, held_back)
        return passed

    def note(self, target: Target, names: Iterable[str]) -> None:
        """Fields that have no effect there: named once."""
        for name in names:
            named = (target.name, name[:_NAME_LENGTH])
            if named not in self._named and len(self._named) < MOST_NAMED:
                self._named.add(named)
                self._log_event("held_back", {"upstream": named[0], "field": named[1]})
