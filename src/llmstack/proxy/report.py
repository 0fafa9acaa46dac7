"""What is reported of a request: one JSON line on stderr, the counters of /metrics, a capture for --debug.

Never a token, never a prompt's text: the line has names, sizes, times and causes only.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmstack.paths import write_private
from llmstack.proxy.api_paths import label_of
from llmstack.warmstart.audit import Audit

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "proxy-authorization", "cookie", "set-cookie"})
_MAX_LABEL_MODELS = 32
_WORDS = (
    "key", "model", "route", "upstream", "session", "agent", "stop_reason", "cause", "fallback", "web", "web_result",
)  # fmt: skip


@dataclass(slots=True)
class RequestRecord:
    """One request as the log and the metrics see it: filled while it runs. Times: seconds of the monotonic clock.

    key: the name of the key that it was sent with, `owner` for the stack's own token; empty where it had none.
    fallback: "FROM->TO: cause" of the last step along a route, or "". first_token: when a block of the answer began.
    web: the tool of a side call that the proxy answered, web_result: `ok`, or why it could not.
    queue_ms: from the request to the upstream's headers. leaked: tool calls that came as text; repaired: arguments.
    """

    id: str
    method: str
    path: str
    key: str = ""
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    model: str = ""
    route: str = ""
    upstream: str = ""
    stream: bool = False
    session: str = ""
    agent: str = ""
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tools: int = 0
    stop_reason: str = ""
    cause: str = ""
    first_token: float | None = None
    queue_ms: float | None = None
    fallback: str = ""
    joined: bool = False
    disconnected: bool = False
    leaked: int = 0
    repaired: int = 0
    retries: int = 0
    web: str = ""
    web_result: str = ""
    audit: Audit | None = None
    quiet: bool = False  # health checks and metrics say nothing

    @property
    def conversation(self) -> str:
        return f"{self.session}/{self.agent}" if self.session else ""

    def line(self) -> dict[str, Any]:
        now = time.monotonic()
        line: dict[str, Any] = {"id": self.id, "method": self.method, "path": self.path, "status": self.status}
        for name in _WORDS:
            value = getattr(self, name)
            if value:
                line[name] = value[:120]
        if self.stream:
            line["stream"] = True
        for name in ("tokens_in", "tokens_cached", "tokens_out", "tools", "leaked", "repaired", "retries"):
            value = getattr(self, name)
            if value:
                line[name] = value
        if self.audit is not None:
            line["prefix"] = self.audit.to_json()
        if self.joined:
            line["joined"] = True
        if self.disconnected:
            line["disconnected"] = True
        if self.queue_ms is not None:
            line["queue_ms"] = round(self.queue_ms, 1)
        if self.first_token is not None:
            line["ttft_ms"] = round(max(self.first_token - self.started, 0.0) * 1000, 1)
        line["total_ms"] = round((now - self.started) * 1000, 1)
        return line


class Lines(Protocol):
    """Where lines go: a stream, or a thread that writes to one."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class Reporter:
    """Metrics and lines of one proxy process."""

    def __init__(self, out: Lines | None = None) -> None:
        self._out = out if out is not None else sys.stderr
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        self._children: dict[tuple[Any, tuple[str, ...]], Any] = {}
        registered: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "llmstack_requests", "Requests answered", ["path", "upstream", "model", "status"], **registered
        )
        self.tokens = Counter("llmstack_tokens", "Tokens, by kind: in, cached, out", ["upstream", "kind"], **registered)
        self.key_requests = Counter(
            "llmstack_key_requests", "Requests, by whose key they came with", ["key", "status"], **registered
        )
        self.key_tokens = Counter(
            "llmstack_key_tokens", "Tokens, by whose key and kind: in, cached, out", ["key", "kind"], **registered
        )
        self.prefix = Counter(
            "llmstack_prefix", "Answered prompts, by what was reused of them and why", ["why"], **registered
        )
        self.ttft = Histogram(
            "llmstack_ttft_seconds",
            "Time to the first block of an answer; keepalives do not count",
            ["upstream"],
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            **registered,
        )
        self.active = Gauge("llmstack_requests_active", "Requests being answered now", **registered)
        self.queued = Gauge(
            "llmstack_requests_waiting", "Requests whose upstream has not begun to answer", **registered
        )
        self.tasks = Gauge("llmstack_tasks", "Tasks of the event loop", **registered)
        self.up = Gauge("llmstack_upstream_up", "1 if the upstream's last answer was one", ["upstream"], **registered)
        self.failures = Counter("llmstack_failures", "Failed requests, by cause", ["cause"], **registered)
        self.connections = Gauge("llmstack_connections", "Open client connections", **registered)
        self.joined = Counter("llmstack_requests_joined", "Requests that joined a running one", **registered)
        self.disconnects = Counter(
            "llmstack_disconnects", "Clients gone before their answer was complete", **registered
        )
        self.web = Counter(
            "llmstack_web", "Searches and pages that the proxy answered, by result", ["tool", "result"], **registered
        )
        self.lost = Counter("llmstack_log_lines_lost", "Lines of the log that could not be written", **registered)
        self.repairs = Counter(
            "llmstack_repairs", "Tool arguments put right, tool calls recovered", ["kind"], **registered
        )

    def event(self, name: str, fields: dict[str, Any]) -> None:
        line = {"event": name, **fields}
        try:
            self._out.write(msgspec.json.encode(line).decode() + "\n")
            self._out.flush()
        except (OSError, ValueError):  # a full disk, a stream that was closed: it costs a line, never an answer
            self.lost.inc()

    def _of(self, metric: Any, *labels: str) -> Any:
        """The child of a metric for these labels, which are few: prometheus_client takes a lock to look one up."""
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def finish(self, record: RequestRecord) -> None:
        path = label_of(record.path)
        upstream = record.upstream or "none"
        self._of(self.requests, path, upstream, self._model(record.model), str(record.status)).inc()
        if record.cause:
            self._of(self.failures, record.cause).inc()
        if record.tokens_in or record.tokens_out:
            self._of(self.tokens, upstream, "in").inc(record.tokens_in)
            self._of(self.tokens, upstream, "cached").inc(record.tokens_cached)
            self._of(self.tokens, upstream, "out").inc(record.tokens_out)
        if record.key:  # of this stack's own keys: their number is bounded
            self._of(self.key_requests, record.key, str(record.status)).inc()
            for kind, tokens in (
                ("in", record.tokens_in),
                ("cached", record.tokens_cached),
                ("out", record.tokens_out),
            ):
                if tokens:
                    self._of(self.key_tokens, record.key, kind).inc(tokens)
        if record.audit is not None:
            self._of(self.prefix, record.audit.why).inc()
        if record.first_token is not None and record.upstream:
            self._of(self.ttft, upstream).observe(max(record.first_token - record.started, 0.0))
        if record.joined:
            self.joined.inc()
        if record.disconnected:
            self.disconnects.inc()
        if record.web and record.web_result:
            self._of(self.web, record.web, record.web_result).inc()
        if record.leaked:
            self._of(self.repairs, "leaked_call").inc(record.leaked)
        if record.repaired:
            self._of(self.repairs, "argument").inc(record.repaired)
        if not record.quiet:
            self.event("request", record.line())

    def _model(self, name: str) -> str:
        """Names come from clients: past the first few, and without an odd character, they are all `other`."""
        if not name:
            return "none"
        if name not in self._models:
            if len(self._models) >= _MAX_LABEL_MODELS or len(name) > 80 or not name.isprintable():
                return "other"
            self._models.add(name)
        return name

    def metrics(self) -> bytes:
        return generate_latest(self.registry)


class Capture:
    """--debug: exchanges as files of mode 0600, the last few of them, without what authenticates anybody."""

    def __init__(self, folder: Path, keep: int = 20) -> None:
        self._folder = folder
        self._keep = keep

    def write(
        self,
        record: RequestRecord,
        headers: list[tuple[bytes, bytes]],
        request: bytes,
        answer: list[bytes],
        upstream: bytes,
    ) -> Path:
        shown = {
            name.decode("latin-1"): "[redacted]"
            if name.decode("latin-1") in _SECRET_HEADERS
            else value.decode("latin-1")
            for name, value in headers
        }
        document = {
            "request": {"headers": shown, "body": request.decode("utf-8", "replace")},
            "to_upstream": upstream.decode("utf-8", "replace"),
            "answer": b"".join(answer).decode("utf-8", "replace"),
            "exchange": record.line(),
        }
        path = self._folder / f"{record.id}.json"
        write_private(path, msgspec.json.format(msgspec.json.encode(document), indent=2))
        old = sorted(self._folder.glob("req_*.json"), key=lambda p: p.stat().st_mtime)[: -self._keep]
        for gone in old:
            gone.unlink(missing_ok=True)
        return path


def error_location(error: BaseException) -> str:
    """File and line, without what the frames held."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
