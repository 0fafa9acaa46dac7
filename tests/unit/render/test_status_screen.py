"""`status` fits one screen, says what is so, and ends with the next command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from llmstack.access.book import KeyBook
from llmstack.access.keys import ClientKey
from llmstack.access.listed import list_keys
from llmstack.access.use import KeyUse, UseOfKeys
from llmstack.deploy.status import StackState, StackStatus, Warm
from llmstack.deploy.usage import Used
from llmstack.plan import Decision, Goal, make_plan
from llmstack.plan.memory import MemoryUse
from llmstack.render.status import duration, screen
from llmstack.stackfile import HealthRecord, ModelEntry, ProxyEntry, ServerEntry, StackRecord, stored
from llmstack.supervisor import ServiceState, ServiceStatus
from support.planner.draws import facts, machine

_PLANNED = make_plan(facts("qwen3moe-30b-a3b"), machine(12, 64, gpus=2), Goal())
PLAN = replace(
    _PLANNED,
    assignment=replace(_PLANNED.assignment, type_k="q4_0", type_v="q4_0"),
    decisions=(
        Decision("-ngl", "99", "why"),
        Decision("-ncmoe", "21", "why"),
        Decision("-nkvo", "", "why"),
        Decision("-ub", "512", "why"),
    ),
    memory=replace(
        _PLANNED.memory,
        devices=(MemoryUse(10000, 800, 200, 0), MemoryUse(900, 100, 0, 0)),
        host=MemoryUse(7000, 0, 0, 1000),
    ),
)
STACK = StackRecord(
    ModelEntry("qwen", "/m/q.gguf"),
    ServerEntry("127.0.0.1", 8080, "cuda-11434", ()),
    ProxyEntry("127.0.0.1", 5000),
    n_ctx=65536,
    n_ctx_slot=65536,
    n_parallel=1,
    n_predict=8192,
    supervisor="systemd",
    services=(),
    stored_plan=stored(PLAN),
)
READY = StackStatus(
    StackState.READY,
    STACK,
    {
        "server": ServiceStatus("server", ServiceState.RUNNING, 41, 4000.0),
        "proxy": ServiceStatus("proxy", ServiceState.RUNNING, 42, 59.0, 1, "killed (SIGKILL)"),
    },
    "systemd",
    Warm("warm", 18700, "slot"),
    used=Used(7900, 11500),
    bench={"prefill_tps": 260.4, "decode_tps": 31.0},
)


def test_a_ready_stack_is_told_in_one_screen() -> None:
    assert screen(READY, 100) == [
        "ready  qwen on cuda-11434  http://127.0.0.1:5000  (systemd)",
        "  server   running, pid 41, up 1 h",
        "  proxy    running, pid 42, up 59 s, died 1 time, last: killed (SIGKILL)",
        "  plan     context 65,536, 1 slot, KV q4_0, -ngl 99, -ncmoe 21, -nkvo",
        "  memory   VRAM 11,500 of 12,000 MiB planned, RAM 7,900 of 8,000 MiB planned",
        "  speed    prefill 260, decode 31 tokens/s at the last bench",
        "  cache    warm: 18,700 tokens held",
        "  next     llmstack claude",
    ]


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    cause, error = "server: it ran out of memory and was killed " * 3, "failed to load the model " * 8
    failed = replace(READY, state=StackState.FAILED, cause=cause, last_error=error, next="llmstack up")
    assert max(len(line) for line in screen(failed, columns)[1:]) <= columns


def test_a_failure_names_its_cause_and_its_own_next_command() -> None:
    failed = replace(READY, state=StackState.FAILED, cause="server: out of memory", next="llmstack up qwen --ctx 32768")
    lines = screen(failed, 80)
    assert "  cause    server: out of memory" in lines
    assert lines[-1] == "  next     llmstack up qwen --ctx 32768"


def test_a_ready_stack_tells_what_it_refuses() -> None:
    refusing = replace(
        READY, refused={"requests": 1}, cause="the engine died on 1 request", last_error="GGML_ASSERT(x)"
    )
    lines = screen(refusing, 80)
    assert "  cause    the engine died on 1 request" in lines and "  error    GGML_ASSERT(x)" in lines
    assert refusing.to_json()["refused"] == {"requests": 1}


def test_an_up_that_was_cut_off_is_told_with_what_finishes_it() -> None:
    lines = screen(replace(READY, state=StackState.DEGRADED, interrupted=True), 80)
    assert any("cut off" in line for line in lines)
    assert lines[-1] == "  next     llmstack up   finishes it"


def test_a_record_without_a_plan_still_says_what_runs() -> None:
    lines = screen(replace(READY, stack=msgspec.structs.replace(STACK, stored_plan=msgspec.Raw(b"null"))), 100)
    assert "  plan     context 65,536, 1 slot" in lines
    assert "  memory   VRAM 11,500 MiB, RAM 7,900 MiB" in lines


def test_nothing_deployed_says_how_to_begin() -> None:
    nothing = StackStatus(StackState.STOPPED, None, {}, "process", Warm("cold", 0, None))
    assert screen(nothing, 80) == [
        "stopped: nothing is deployed",
        "  next     llmstack up --demo   or   llmstack up MODEL",
    ]


def test_without_a_bench_the_health_check_gives_the_speed() -> None:
    health = HealthRecord(100.0, 9.0, 10, 9, 0.99, 0.1, 0.01, "hello", 0.0)
    told = screen(replace(READY, bench={}, stack=msgspec.structs.replace(STACK, health=health)), 80)
    assert "  speed    prefill 100, decode 9 tokens/s at `up`" in told


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_who_else_reaches_the_proxy_is_on_the_screen() -> None:
    assert "listens" not in "\n".join(screen(READY, 80))
    open_stack = msgspec.structs.replace(STACK, proxy=ProxyEntry("192.0.2.7", 5000, ("llm.lan",)))
    lines = "\n".join(screen(replace(READY, stack=open_stack), 120))
    assert "192.0.2.7:5000" in lines and "http://llm.lan:5000" in lines and "plain text" in lines


def test_the_proxy_alone_has_a_screen_of_its_own_with_the_way_to_a_model() -> None:
    proxy = {"proxy": ServiceStatus("proxy", ServiceState.RUNNING, 42, 59.0)}
    alone = StackStatus(StackState.READY, STACK, proxy, "process", Warm("cold", 0, None), alone=ProxyEntry())
    lines = "\n".join(screen(alone, 80))
    assert "the proxy alone" in lines and "claude --profile NAME" in lines and "up   starts qwen again" in lines
    stopped = replace(alone, state=StackState.STOPPED, stack=None)
    assert screen(stopped, 80)[-1].endswith("llmstack up --proxy-only")


@pytest.mark.parametrize("state", list(StackState))
@pytest.mark.parametrize("stack", [STACK, None])
def test_words_and_json_say_the_same_next_command(state: StackState, stack: StackRecord | None) -> None:
    status = replace(READY, state=state, stack=stack)
    hint = status.to_json()["next"]
    assert hint and screen(status, 200)[-1].endswith(hint)


def test_each_key_has_a_row_and_what_it_used_never_what_it_is() -> None:
    key = ClientKey("kim", "id", "the hash of it", 0.0, tokens_per_day=1000)
    use = UseOfKeys({"kim": KeyUse(0, 1200, 3, 40.0)})
    status = replace(READY, keys=list_keys(KeyBook((key, replace_key(key, "lee", revoked=1.0))), use, 100.0))
    rows = [line for line in screen(status, 100) if line.startswith("  key")]
    assert rows == ["  key      kim: exhausted, 1,200 of 1,000 tokens today, last used 1 min ago"]
    assert "the hash of it" not in str(status.to_json())
    many = tuple(replace_key(key, f"k{number}", id=str(number)) for number in range(9))
    crowd = screen(replace(READY, keys=list_keys(KeyBook(many), use, 100.0)), 100)
    assert [line.split()[0] for line in crowd].count("key") == 6 and "  key      and 4 more: llmstack key list" in crowd
    assert status.to_json()["keys"][0]["tokens_today"] == 1200


def replace_key(key: ClientKey, name: str, **fields: Any) -> ClientKey:
    return msgspec.structs.replace(key, name=name, **fields)
