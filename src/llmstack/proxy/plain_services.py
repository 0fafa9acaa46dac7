"""Paths that are passed on as they are: embeddings, reranking, completions of a text, filling in the middle, tokens.

They hold no conversation, so nothing of the pipeline is for them but routes, fallback, turns, keys and the log. A
llama-server is given the fields named here, of what it reads (llama_server/request_fields.py has the reason).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from llmstack.catalog.routes import Target
from llmstack.commands import command_line
from llmstack.protocol.clients.neutral import object_of
from llmstack.protocol.errors import Failure, FailureKind, Refused, unsupported
from llmstack.proxy.callers import Callers, caller_of
from llmstack.proxy.gate import Policy, read_body
from llmstack.proxy.live_config import LiveConfig
from llmstack.proxy.relay import Passing, Relay
from llmstack.proxy.report import RequestRecord
from llmstack.proxy.respond import Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class PlainService:
    """fields: its own, beside those of an answer (samples: whether it has those). special: the main server of a stack
    does not have it. own_api: llama.cpp's, which no other kind of upstream has."""

    what: str
    fields: frozenset[str]
    samples: bool = False
    special: bool = False
    own_api: bool = False


PLAIN: Mapping[str, PlainService] = {
    "/v1/embeddings": PlainService(
        "embeddings", frozenset({"input", "content", "encoding_format", "dimensions", "embd_normalize"}), special=True
    ),
    "/v1/rerank": PlainService(
        "ranks of texts", frozenset({"query", "documents", "top_n", "return_text"}), special=True
    ),
    "/v1/completions": PlainService("completions of a text", frozenset({"prompt", "suffix", "echo"}), samples=True),
    "/infill": PlainService(
        "text for a gap",
        frozenset({"input_prefix", "input_suffix", "input_extra", "prompt"}),
        samples=True,
        own_api=True,
    ),
    "/tokenize": PlainService(
        "tokens", frozenset({"content", "add_special", "parse_special", "with_pieces"}), own_api=True
    ),
    "/detokenize": PlainService("the text of tokens", frozenset({"tokens"}), own_api=True),
}


@dataclass(slots=True)
class PlainServices:
    live: LiveConfig
    relay: Relay
    policy: Policy
    callers: Callers

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused while nothing has been sent."""
        record: RequestRecord = scope["record"]
        service = PLAIN[scope["path"]]
        body = await read_body(scope, receive, self.policy)
        request = object_of(body)
        model = request.get("model") if isinstance(request.get("model"), str) else ""
        record.model, record.stream = str(model), request.get("stream") is True
        self.callers.require_model(caller_of(scope), record.model)
        route = self.live.choose(record.model)
        if route is None:
            raise Refused(Failure(FailureKind.INVALID, f"no route for the model {record.model!r}"))
        record.route = route.match

        def passing(target: Target) -> Passing:
            _require(target, service)
            given = self._given(target, service, request)
            changes = {**target.extra_body, **({"model": target.model} if target.model is not None else {})}
            data = msgspec.json.encode({**given, **changes}) if changes or given is not request else body
            return Passing(target, scope["path"], data, anthropic=False)

        await self.relay.along(scope, receive, send, route, request, passing)

    def _given(self, target: Target, service: PlainService, request: dict[str, Any]) -> dict[str, Any]:
        if target.kind != "llama-server":
            return request
        own = {name: value for name, value in request.items() if name in service.fields}
        rest = {name: value for name, value in request.items() if name not in service.fields}
        if service.samples:
            return {**self.relay.held_back.passed(target, rest), **own}
        self.relay.held_back.note(target, [name for name in rest if name != "model"])
        return own | {"model": request["model"]} if "model" in request else own


def _require(target: Target, service: PlainService) -> None:
    """Raises Refused where this upstream cannot have it."""
    if target.kind == "anthropic" or (service.own_api and target.kind != "llama-server"):
        raise Refused(unsupported(f"{target.name} has no API for {service.what}; route this model's name elsewhere"))
    if service.special and target.is_local:
        message = (
            f"the deployed model answers no {service.what}. Give the name of such a model a route to an upstream that "
            f"has them: `{command_line('upstream', 'add', 'NAME')}`, then a [[routes]] entry in models.toml"
        )
        raise Refused(unsupported(message))
