"""Makes the services' logs readable: one line per request instead of eight, details of loading counted, repeats too.

Input lines look like `0.01.400.113 I slot print_timing: id  0 | task 2 | prompt eval time = …` (llama.cpp, log.cpp
and server-task.cpp: seconds since its start, level, tag, text) and `{"event":"request",…}` (the proxy). What is not
recognised goes through as it is; warnings and errors always do.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.supervisor import LogLine


class LogLevel(enum.StrEnum):
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"


@dataclass(frozen=True, slots=True)
class Shown:
    """One line to show, of one service."""

    time_s: float
    service: str
    level: LogLevel
    text: str


_ENGINE = re.compile(r"^\s*(?P<clock>\d+(?:\.\d+)+)\s+(?P<level>[EWID])\s+(?P<text>.*)$")
_LEVELS = {"E": LogLevel.ERROR, "W": LogLevel.WARN, "I": LogLevel.INFO, "D": LogLevel.DEBUG}
_TASK = re.compile(r"^slot\s+(?P<what>\S+?):\s+id\s+(?P<slot>-?\d+) \| task (?P<task>-?\d+) \|\s*(?P<rest>.*)$")
_TIMING = re.compile(r"^(?P<what>prompt eval|eval) time =\s*(?P<ms>[\d.]+) ms /\s*(?P<tokens>\d+) tokens")
_HELD = re.compile(r"n_tokens = (\d+)")
_DETAIL = re.compile(
    r"^(?:print_info|llama_model_loader|load_tensors|load:|llama_context|llama_kv_cache\w*|llama_memory\w*|sched_reserve"
    r"|common_param|system_info|llm_load\S*|ggml_\w+_init|graph_reserve|set_abort_callback|init_tokenizer|create_memory)"
    r"|^(?:cmn|srv)\s+(?:common_param|init_listene|print_info)"
    r"|^(?:common_memory_breakdown_print|common_fit_params|resolve_fused_ops)|^(?:cmn|spec)\s+common_\w+"
    r"|^srv\s+load_model: (?:local path|prompt cache is|use `|for more info|context checkpoints)"
    r"|^srv\s+init: (?:idle slots|init: chat template|preserve_reasoning|using \d+ threads)"
)
# What verbosity 4, which a plan with a device asks for (deploy.services), adds to each request.
_CHATTER = re.compile(
    r"^srv\s+(?:update_slots: all slots are idle|server_strea: conv_id|operator\(\): chat format"
    r"|get_availabl: (?:updating prompt cache|prompt cache update took)|load:  - |update:  - |update:    - )"
    r"|^\t(?:repeat_last_n|dry_multiplier|top_k|mirostat) = "
)
_SOUNDS_BAD = re.compile(r"\b(?:error|fatal|failed|abort)\b", re.I)


class LineFolder:
    """Takes lines one by one, gives back what is to be shown by then. `flush` gives what it still holds."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], _Task] = {}
        self._details: dict[str, _Count] = {}
        self._repeated: dict[str, _Count] = {}

    def receive(self, line: LogLine) -> list[Shown]:
        shown = _read(line)
        if shown.level in (LogLevel.ERROR, LogLevel.WARN):
            return [*self._end_details(line.service), *self._unless_repeated(shown)]
        task = _TASK.match(shown.text)
        if task is not None:
            return [*self._end_details(line.service), *self._task(line, task)]
        if line.service == "server" and _CHATTER.match(shown.text):
            return []
        if line.service == "server" and _DETAIL.match(shown.text):
            self._details.setdefault(line.service, _Count(line)).add(line)
            return self._end_repeats(line.service)
        return [*self._end_details(line.service), *self._unless_repeated(shown)]

    def flush(self) -> list[Shown]:
        services = dict.fromkeys((*self._details, *self._repeated))
        left = [shown for service in services for shown in (*self._end_details(service), *self._end_repeats(service))]
        return left + [task.shown(f"task {key[1]} is in progress") for key, task in self._tasks.items()]

    def _task(self, line: LogLine, match: re.Match[str]) -> list[Shown]:
        key = (line.service, match["task"])
        if match["task"] == "-1":
            return []
        task = self._tasks.setdefault(key, _Task(line))
        task.last = line
        timing = _TIMING.match(match["rest"])
        if timing is not None:
            setattr(task, "prompt" if timing["what"] == "prompt eval" else "answer", (timing["tokens"], timing["ms"]))
        if match["what"] != "release":
            return []
        del self._tasks[key]
        held = _HELD.search(match["rest"])
        return [*self._end_repeats(line.service), task.shown(task.told(match["task"], held[1] if held else ""))]

    def _end_details(self, service: str) -> list[Shown]:
        count = self._details.pop(service, None)
        if count is None:
            return []
        return [
            Shown(
                count.last.time_s,
                service,
                LogLevel.DEBUG,
                f"({count.number} lines of loading details; --raw shows them)",
            )
        ]

    def _unless_repeated(self, shown: Shown) -> list[Shown]:
        before = self._repeated.get(shown.service)
        if before is not None and before.text == shown.text:
            before.add(LogLine(shown.time_s, shown.service, shown.text))
            return []
        ended = self._end_repeats(shown.service)
        count = _Count(LogLine(shown.time_s, shown.service, shown.text))
        count.number, count.level = 0, shown.level
        self._repeated[shown.service] = count
        return [*ended, shown]

    def _end_repeats(self, service: str) -> list[Shown]:
        count = self._repeated.pop(service, None)
        if count is None or count.number == 0:
            return []
        times = "once more" if count.number == 1 else f"{count.number} times more"
        return [Shown(count.last.time_s, service, count.level, f"(the same {times})")]


class _Count:
    def __init__(self, line: LogLine) -> None:
        self.last, self.text, self.number, self.level = line, line.text, 0, LogLevel.INFO

    def add(self, line: LogLine) -> None:
        self.last = line
        self.number += 1


class _Task:
    def __init__(self, line: LogLine) -> None:
        self.last = line
        self.prompt: tuple[str, str] | None = None
        self.answer: tuple[str, str] | None = None

    def shown(self, text: str) -> Shown:
        return Shown(self.last.time_s, self.last.service, LogLevel.INFO, text)

    def told(self, number: str, held: str) -> str:
        parts = [_rate("read", self.prompt), _rate("wrote", self.answer), f"{int(held):,} held" if held else ""]
        return f"task {number}: " + (", ".join(part for part in parts if part) or "ended")


def _rate(verb: str, timing: tuple[str, str] | None) -> str:
    if timing is None:
        return ""
    tokens, ms = int(timing[0]), float(timing[1])
    if verb == "wrote" and ms == 0.0:
        return ""
    rate = f", {tokens / ms * 1000:,.0f}/s" if ms > 0 else ""
    return f"{verb} {tokens:,} tokens in {ms / 1000:.2f} s{rate}"


def raw(line: LogLine) -> Shown:
    """The line as it was written, with its level for the colour."""
    read = _read(line)
    return Shown(line.time_s, line.service, read.level, line.text)


def _read(line: LogLine) -> Shown:
    if line.text.startswith("{"):
        event = _event(line.text)
        if event is not None:
            return Shown(line.time_s, line.service, *event)
    match = _ENGINE.match(line.text)
    if match is not None:
        return Shown(line.time_s, line.service, _LEVELS[match["level"]], match["text"])
    if line.text.startswith("llmstack: "):
        return Shown(line.time_s, line.service, LogLevel.WARN, line.text)
    level = LogLevel.ERROR if _SOUNDS_BAD.search(line.text) else LogLevel.INFO
    return Shown(line.time_s, line.service, level, line.text)


_EVENT_LEVELS = {"error": LogLevel.ERROR, "warning": LogLevel.WARN, "warn": LogLevel.WARN}


def _event(text: str) -> tuple[LogLevel, str] | None:
    """A line of the proxy as a sentence; None when it is no event."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict) or "event" not in record:
        return None
    if record["event"] != "request":
        rest = " ".join(f"{key}={value}" for key, value in record.items() if key not in ("event", "level"))
        level = _EVENT_LEVELS.get(str(record.get("level")), LogLevel.INFO)
        return level, f"{record['event']} {rest}".strip()
    status = int(record.get("status", 0))
    level = LogLevel.ERROR if status >= 500 else LogLevel.WARN if status >= 400 else LogLevel.INFO
    return level, _request(record, status)


def _request(record: Mapping[str, Any], status: int) -> str:
    parts = [f"{record.get('method', '?')} {record.get('path', '?')} {status}"]
    if record.get("key", "owner") != "owner":
        parts.append(f"for {record['key']}")
    if record.get("model"):
        to = record.get("upstream")
        parts.append(f"{record['model']}" + (f" by {to}" if to and to != "local" else ""))
    if record.get("tokens_in") is not None:
        cached = f" ({record['tokens_cached']:,} cached)" if record.get("tokens_cached") else ""
        parts.append(f"{record['tokens_in']:,} in{cached}, {record.get('tokens_out') or 0:,} out")
    if record.get("web"):
        parts.append(f"{record['web']} {record.get('web_result') or ''}".rstrip())
    if record.get("ttft_ms") is not None:
        parts.append(f"first token {_ms(record['ttft_ms'])}")
    if record.get("total_ms") is not None:
        parts.append(_ms(record["total_ms"]))
    parts += [str(record[key]) for key in ("stop_reason", "cause", "error", "fallback") if record.get(key)]
    return ", ".join(parts)


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
