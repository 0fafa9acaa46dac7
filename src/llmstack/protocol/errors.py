"""What can go wrong with a request, as a value: one kind, one status, one sentence.

Statuses and type names: Anthropic's API reference, "Errors". How the real client reacts decides between them:
529 and 5xx are tried again ten times, 400 and 403 are final, 404 reads as "this model does not exist", and only the
exact words "prompt is too long: N tokens > M maximum" with 400 make it compact and go on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from llmstack.protocol.anthropic import ErrorBody, ErrorEvent
from llmstack.protocol.limits import most


class FailureKind(enum.StrEnum):
    INVALID = "invalid_request_error"
    AUTHENTICATION = "authentication_error"
    BILLING = "billing_error"
    PERMISSION = "permission_error"
    NOT_FOUND = "not_found_error"
    TOO_LARGE = "request_too_large"
    RATE_LIMIT = "rate_limit_error"
    API = "api_error"
    TIMEOUT = "timeout_error"
    OVERLOADED = "overloaded_error"


STATUS: dict[FailureKind, int] = {
    FailureKind.INVALID: 400,
    FailureKind.AUTHENTICATION: 401,
    FailureKind.BILLING: 402,
    FailureKind.PERMISSION: 403,
    FailureKind.NOT_FOUND: 404,
    FailureKind.TOO_LARGE: 413,
    FailureKind.RATE_LIMIT: 429,
    FailureKind.API: 500,
    FailureKind.TIMEOUT: 504,
    FailureKind.OVERLOADED: 529,
}


# Google's names (google.rpc.Code), and its status where Anthropic has one of its own.
_GEMINI_NAMES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
GEMINI_STATUS = {402: 403, 529: 503}


class Cause(enum.StrEnum):
    """Why, for the log line, the metrics and the fallback chain; bounded, so it can be a label.

    UNSUPPORTED: this upstream's dialect lacks what the request needs (images, Anthropic's own tools, several answers);
    another upstream may have it. ENGINE_DIED: the local server died on this request before, and is not sent it again.
    IMAGE: one that it could not decode. KEY: the key of its sender ended, is used up, or may not ask for that.
    """

    CLIENT = "client"
    OVERFLOW = "overflow"
    UNREACHABLE = "unreachable"
    LOADING = "loading"
    OVERLOADED = "overloaded"
    UPSTREAM = "upstream"
    MALFORMED = "malformed"
    PARSE = "parse"
    CUT = "cut"
    IMAGE = "image"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    ENGINE_DIED = "engine_died"
    STOPPING = "stopping"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Failure:
    """retry_after_s: seconds, sent as `retry-after`. tokens, limit: known for an overflow. details: what a client's SDK
    reads beside the sentence."""

    kind: FailureKind
    message: str
    cause: Cause = Cause.CLIENT
    status: int = 0
    retry_after_s: int | None = None
    tokens: int | None = None
    limit: int | None = None
    details: Mapping[str, Any] | None = None

    @property
    def http_status(self) -> int:
        return self.status or STATUS[self.kind]

    def to_anthropic(self, request_id: str | None = None) -> bytes:
        error: dict[str, Any] = {"type": self.kind.value, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        body: dict[str, Any] = {"type": "error", "error": error}
        if request_id is not None:
            body["request_id"] = request_id
        return msgspec.json.encode(body)

    def to_openai(self) -> bytes:
        code = "context_length_exceeded" if self.cause is Cause.OVERFLOW else None
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.kind.value, "param": None, "code": code}}
        )

    def to_gemini(self) -> bytes:
        status = GEMINI_STATUS.get(self.http_status, self.http_status)
        name = _GEMINI_NAMES.get(status, "INTERNAL")
        return msgspec.json.encode({"error": {"code": status, "message": self.message, "status": name}})

    def to_event(self) -> ErrorEvent:
        return ErrorEvent(error=ErrorBody(type=self.kind.value, message=self.message))


class Refused(Exception):
    """Carries a Failure up to where it is answered."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ProtocolFault(Exception):
    """A move that a state machine's table does not have: a mistake of the code that drives it, never of a peer."""

    def __init__(self, machine: str, signal: enum.Enum, state: enum.Enum) -> None:
        super().__init__(f"{machine}: {signal.name} in state {state.name}")
        self.signal = signal
        self.state = state


def invalid(message: str) -> Failure:
    return Failure(FailureKind.INVALID, message)


def unsupported(message: str) -> Failure:
    """What this upstream's dialect lacks; a route may name the cause in `fallback_on`."""
    return Failure(FailureKind.INVALID, message, Cause.UNSUPPORTED)


def no_threads() -> Failure:
    """A conversation that is kept on the server. Anthropic's SDK sends the whole conversation again when it reads these
    details (anthropic-python, lib/threads: `thread_unsupported_request`), and gives up without them."""
    return Failure(
        FailureKind.INVALID,
        "thread: conversations are not kept on this server; send all messages",
        Cause.UNSUPPORTED,
        details={"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
    )


def too_long(tokens: int, limit: int) -> Failure:
    """The words are the contract: Claude Code compacts when it reads exactly these."""
    return Failure(
        FailureKind.INVALID,
        f"prompt is too long: {tokens} tokens > {limit} maximum",
        Cause.OVERFLOW,
        tokens=tokens,
        limit=limit,
    )


def unavailable(message: str, cause: Cause, retry_after_s: int = 2) -> Failure:
    return Failure(FailureKind.OVERLOADED, message, cause, retry_after_s=retry_after_s)


_NESTED = 16  # how deep an upstream may wrap its sentence
_OVERFLOW = (
    # llama-server: "request (18700 tokens) exceeds the available context size (4096 tokens), try increasing it"
    re.compile(r"request \((?P<tokens>\d{1,15}) tokens\) exceeds the available context size \((?P<limit>\d{1,15})"),
    # OpenAI: "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens"
    re.compile(
        r"maximum context length is (?P<limit>\d{1,15}) tokens.*?"
        r"(?:resulted in|requested|contains?(?: at least)?|has)\s+(?:about )?(?P<tokens>\d{1,15})",
        re.DOTALL,
    ),
    # vLLM: "The decoder prompt (length 9001) is longer than the maximum model length of 8192"
    re.compile(
        r"prompt \(length (?P<tokens>\d{1,15})\) is longer than the maximum model length of (?P<limit>\d{1,15})"
    ),
    # LM Studio (lmstudio-bug-tracker#2256, #546): "... (n_keep: 13055>= n_ctx: 4096)", "Trying to keep the first 9001
    # tokens when context the overflows. However, the model is loaded with context length of only 8192 tokens"
    re.compile(r"n_keep: ?(?P<tokens>\d{1,15}) ?>= ?n_ctx: ?(?P<limit>\d{1,15})"),
    re.compile(r"keep the first (?P<tokens>\d{1,15}) tokens .*?context length of only (?P<limit>\d{1,15})", re.DOTALL),
    # already Anthropic's words
    re.compile(r"prompt is too long: (?P<tokens>\d{1,15}) tokens > (?P<limit>\d{1,15})"),
)
_OVERFLOW_WORDS = (
    "context_length_exceeded",
    "exceed_context_size",
    "context length",
    "context size",
    "maximum context",
)
# common/chat.cpp: "The model produced output that does not match the expected ... format"
_PARSE = re.compile(r"does not match the expected .{0,40}format|Failed to parse (?:input|tool call)", re.IGNORECASE)
_UNREAD_IMAGE = "Failed to load image"  # tools/server: process_mtmd_prompt
_LOADING = re.compile(r"loading model|model is (?:still )?loading", re.IGNORECASE)


def text_of(error: Any) -> str:
    """The sentence inside any upstream's error value; a long one is cut, for it is shown to people and searched."""
    longest = most("error_text")
    for _ in range(_NESTED):
        if isinstance(error, str):
            return error[:longest]
        if isinstance(error, dict):
            inner = next((error[key] for key in ("message", "error", "detail", "msg") if error.get(key)), None)
            if inner is None:
                break
            error = inner
        elif isinstance(error, list) and error:
            error = error[0]
        else:
            break
    try:
        return msgspec.json.encode(error).decode()[:longest] if isinstance(error, dict) else _plain(error)[:longest]
    except RecursionError:
        return "an error that nests too deeply"


def _plain(error: Any) -> str:
    return str(error) if error is not None else ""


def _innermost(error: Any) -> dict[str, Any]:
    for _ in range(_NESTED):
        inner = error.get("error") if isinstance(error, dict) else None
        if not isinstance(inner, dict):
            break
        error = inner
    return error if isinstance(error, dict) else {}


def _code_of(error: Any) -> str:
    inner = _innermost(error)
    words = (value for key in ("type", "code") if isinstance(value := inner.get(key), str | int))
    return " ".join(str(word)[:100] for word in words)


def _numbers(error: Any) -> tuple[int | None, int | None]:
    """llama-server's own fields for an overflow: n_prompt_tokens and n_ctx (server-task.cpp)."""
    inner = _innermost(error)
    tokens, limit = inner.get("n_prompt_tokens"), inner.get("n_ctx")
    return (tokens, limit) if isinstance(tokens, int) and isinstance(limit, int) else (None, None)


# Words of an error inside a stream, or inside an answer with status 200, that say which status it would have had.
_WORDS = (
    (402, ("billing", "insufficient_quota", "payment_required", "insufficient_credits")),
    (429, ("rate_limit", "ratelimit", "too_many_requests")),
    (529, ("overloaded", "unavailable", "capacity")),
    (401, ("authentication", "invalid_api_key", "unauthorized")),
    (403, ("permission", "forbidden")),
    (413, ("request_too_large",)),
    (408, ("timeout", "timed_out")),
    (404, ("not_found", "notfound")),
    (400, ("invalid_request", "badrequest", "bad_request")),
)


def _status_of(error: Any) -> int:
    """The HTTP status that an error names itself; 0 when it names none.

    OpenRouter answers 200 and puts the status into `code` (openrouter.ai/docs, "Errors"); vLLM and llama-server too.
    """
    inner = _innermost(error)
    for key in ("code", "status", "status_code"):
        value = inner.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    words = _code_of(error).lower()
    return next((status for status, marks in _WORDS if any(mark in words for mark in marks)), 0)


def from_upstream(status: int, error: Any, *, name: str, estimate: int = 0, limit: int = 0) -> Failure:
    """An upstream's error answer in the client's words.

    status: the HTTP status, 0 for an error inside a stream or a 200: then the one it names itself. name: the upstream,
    for the sentence. estimate, limit: tokens to name in an overflow whose numbers the upstream kept to itself.
    """
    status = status or _status_of(error)
    text = text_of(error).strip() or f"HTTP {status}"
    code = _code_of(error)
    message = f"{name}: {text}"
    if _UNREAD_IMAGE in text:
        why = f"it is damaged, or a WebP without ffmpeg on {name}"
        return Failure(FailureKind.INVALID, f"an image of this conversation cannot be decoded: {why}", Cause.IMAGE)
    tokens, most = _numbers(error)
    if tokens is not None and most is not None:
        return too_long(tokens, most)
    for pattern in _OVERFLOW:
        match = pattern.search(text)
        if match:
            return too_long(int(match["tokens"]), int(match["limit"]))
    overflowed = any(word in code or word in text.lower() for word in _OVERFLOW_WORDS)
    if overflowed and status in (0, 400, 413, 422, 500):
        return too_long(max(estimate, limit + 1), limit) if limit else too_long(max(estimate, 1), max(estimate - 1, 0))
    if _PARSE.search(text):
        return Failure(FailureKind.API, message, Cause.PARSE)
    if _LOADING.search(text) or (status == 503 and "unavailable_error" in code):
        return unavailable(f"{name} is still loading its model", Cause.LOADING, 5)
    if status in (401, 403):
        # A client that reads 401 asks its user to log in again; the fault is the proxy's key for the upstream.
        kind = FailureKind.AUTHENTICATION if status == 401 else FailureKind.PERMISSION
        return Failure(kind, f"{name} refused the key of this stack: {text}", Cause.UPSTREAM)
    if status == 402:
        return Failure(FailureKind.BILLING, message, Cause.UPSTREAM)
    if status == 408:
        return Failure(FailureKind.TIMEOUT, message, Cause.TIMEOUT, status=408)
    if status == 404:
        return Failure(FailureKind.INVALID, f"{name} does not know this model or path: {text}", Cause.UPSTREAM)
    if status == 413:
        return Failure(FailureKind.TOO_LARGE, message, Cause.UPSTREAM)
    if status == 429:
        return Failure(FailureKind.RATE_LIMIT, message, Cause.OVERLOADED)
    if status in (502, 503, 504, 529) or "overloaded" in code:
        return unavailable(message, Cause.OVERLOADED)
    if 400 <= status < 500:
        return Failure(FailureKind.INVALID, message, Cause.UPSTREAM)
    return Failure(FailureKind.API, message, Cause.UPSTREAM)


def with_retry_after(failure: Failure, value: str | None) -> Failure:
    """Keeps the upstream's own retry-after when it is a number of seconds."""
    if value and value.isascii() and value.isdigit() and len(value) < 10:
        return replace(failure, retry_after_s=min(int(value), 3600))
    return failure
