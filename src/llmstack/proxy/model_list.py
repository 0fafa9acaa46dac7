"""The models that a caller may ask for, in the words of each API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from llmstack.protocol.errors import Failure, FailureKind, Refused
from llmstack.proxy.callers import Callers, caller_of
from llmstack.proxy.codex_catalogue import codex_entry
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.respond import Receive, Scope, Send, respond_json

_GEMINI_METHODS = ["generateContent", "streamGenerateContent", "countTokens"]


@dataclass(slots=True)
class ModelList:
    """started: seconds since the epoch, which stand for a model's date."""

    live: LiveConfig
    callers: Callers
    started: float

    async def all(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Anthropic's list, with the fields OpenAI's clients and Codex read besides."""
        listed = self._listed(scope)
        answer: dict[str, Any] = {"object": "list", "data": listed, "has_more": False}
        answer["models"] = [codex_entry(entry) for entry in listed]
        answer["first_id"] = listed[0]["id"] if listed else None
        answer["last_id"] = listed[-1]["id"] if listed else None
        await respond_json(scope, send, answer)

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(scope, send, self._known(scope, scope["path_params"]["name"]))

    async def all_of_gemini(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(scope, send, {"models": [gemini_entry(entry) for entry in self._listed(scope)]})

    async def one_of_gemini(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(scope, send, gemini_entry(self._known(scope, scope["path_params"]["call"])))

    def _listed(self, scope: Scope) -> list[dict[str, Any]]:
        caller, server = caller_of(scope), self.live.server
        names = dict.fromkeys([*([server.model] if server else []), *self.live.routing.names()])
        entries = [self._entry(name) for name in names if self.callers.may_ask_for(caller, name)]
        return [entry for entry in entries if entry is not None]

    def _known(self, scope: Scope, name: str) -> dict[str, Any]:
        """Raises Refused."""
        entry = self._entry(name) if self.callers.may_ask_for(caller_of(scope), name) else None
        if entry is None:
            raise Refused(Failure(FailureKind.NOT_FOUND, f"no model is called {name[:200]!r} here"))
        return entry

    def _entry(self, name: str) -> dict[str, Any] | None:
        choice = self.live.routing.choose(name)
        if choice is None or not choice.targets:
            return None
        target = choice.targets[0]
        created = int(self.started)
        entry: dict[str, Any] = {
            "type": "model",
            "id": name,
            "display_name": target.display_name or name,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
            "object": "model",
            "created": created,
            "owned_by": target.name,
        }
        context, output = self.live.context(target), self.live.max_output(target)
        if context:
            entry["max_input_tokens"] = entry["context_window"] = context
        if output or context:
            entry["max_tokens"] = output or context
        return entry


def gemini_entry(entry: dict[str, Any]) -> dict[str, Any]:
    named = {"name": f"models/{entry['id']}", "displayName": entry["display_name"], "version": "1"}
    limits = {"inputTokenLimit": entry.get("max_input_tokens"), "outputTokenLimit": entry.get("max_tokens")}
    known = {name: value for name, value in limits.items() if value}
    return {**named, **known, "supportedGenerationMethods": _GEMINI_METHODS}
