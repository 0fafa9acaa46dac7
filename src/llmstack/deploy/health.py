"""The health check: a real prefill, a second one that must hit the cache, decode, memory, and one answer through the
proxy. What misses the plan is told with its likeliest reason."""

from __future__ import annotations

import time
from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.deploy import keys, observe
from llmstack.deploy.expected_speed import expected_speed
from llmstack.deploy.served import MeasuredRate, Served, compare_rates, intended
from llmstack.deploy.served import failure as served_failure
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect.hardware import ram
from llmstack.detect.held import family
from llmstack.detect.load import Watch
from llmstack.engine.control import CompletionTimings, EngineClient
from llmstack.errors import NotSo
from llmstack.findings import Finding
from llmstack.judge import Circumstances, judge_health
from llmstack.paths import Home
from llmstack.stackfile import HealthRecord, StackRecord
from llmstack.workload import agent_prompt

PROMPT_CHARACTERS = 12_000
PROBE_TOKENS = 64  # a first look, so that on a slow machine the rest takes about PREFILL_S and DECODE_S
LEAST_TOKENS = 256
PREFILL_S = 8.0
DECODE_S = 3.0
MIN_HIT_RATIO = 0.9
DECODE_TOKENS = 32
LEAST_DECODE_TOKENS = 4


def check(home: Home, stack: StackRecord) -> HealthRecord:
    """Measures the running stack. Raises NotSo when it does not answer, when the prompt cache does not hold, or when a
    device computes at less than a tenth of the plan."""
    supervisor = supervisor_for(home)
    server = supervisor.status().get("server")
    pids = sorted(family({server.pid})) if server is not None and server.pid else []
    served = observe.observed(home, stack, supervisor)
    taken = _measure(home, stack, pids)
    slow = _below_a_tenth(stack, served, taken)
    # Once more: the first requests of a device compile its kernels, and a client that tries again while `up` is at work
    # takes the slot between the two prompts.
    if served_failure(slow) is not None or not taken.cache_holds:
        taken = _measure(home, stack, pids)
        slow = _below_a_tenth(stack, served, taken)
    if not taken.cache_holds:
        warm = taken.warm
        raise NotSo(
            f"the prompt cache does not hold: {warm.cached_n} of {warm.cached_n + warm.prompt_n} tokens were reused",
            why="the same prompt was sent twice, so nearly all of it should have come from the cache",
            next=command_line("logs", "server"),
        )
    worst = served_failure(slow)
    if worst is not None:
        raise observe.as_error(worst)
    cold, warm, planned = taken.cold, taken.warm, taken.planned
    notes = tuple(f"{one.finding}: {one.cause}" for one in (*observe.findings_of(stack, served), *slow))
    findings = _against_plan(stack, taken, pids)
    answer = ask(stack.proxy.url, keys.token(home), stack.model.name)
    return HealthRecord(
        prefill_tps=round(cold.prefill_tps, 1),
        decode_tps=round(warm.decode_tps, 1),
        prompt_tokens=cold.prompt_n + cold.cached_n,
        cached_tokens=warm.cached_n,
        hit_ratio=round(warm.hit_ratio, 4),
        ttft_cold_s=round(cold.prompt_ms / 1000, 4),
        ttft_warm_s=round(warm.prompt_ms / 1000, 4),
        answer=answer,
        at=time.time(),
        planned=planned,
        findings=(*notes, *findings),
        load=round(taken.load, 3),
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """One measurement. planned: what the plan expects of this very work (tokens/s); empty where it isn't judged."""

    cold: CompletionTimings
    warm: CompletionTimings
    planned: dict[str, float]
    load: float
    disk_mib: float

    @property
    def cache_holds(self) -> bool:
        return self.warm.hit_ratio >= MIN_HIT_RATIO


def _measure(home: Home, stack: StackRecord, pids: list[int]) -> _Taken:
    watch = Watch(pids)
    with EngineClient(stack.server.url, home.server_key) as engine:
        seed = time.time_ns()
        probe = engine.complete(_tokens(engine, seed)[:PROBE_TOKENS], n_predict=LEAST_DECODE_TOKENS)
        most = min(max(int(probe.prefill_tps * PREFILL_S), LEAST_TOKENS), stack.n_ctx_slot // 2)
        prompt = _tokens(engine, seed + 1)[:most]
        cold = engine.complete(prompt, n_predict=1)
        tokens = min(max(int(probe.decode_tps * DECODE_S), LEAST_DECODE_TOKENS), DECODE_TOKENS)
        warm = engine.complete([*prompt, *engine.tokens("\nNow sum it up.")], n_predict=tokens)
        load = watch.others()
    return _Taken(cold, warm, _planned(stack, cold, warm), load, watch.disk_mib())


def _planned(stack: StackRecord, cold: CompletionTimings, warm: CompletionTimings) -> dict[str, float]:
    plan = expected_speed(stack)
    if plan is None or not plan.judges:
        return {}
    return {
        "prefill": round(cold.prompt_n / plan.prefill_s(max(cold.prompt_n, 1), cold.cached_n), 1),
        "decode": round(1 / plan.decode_s(warm.cached_n + warm.prompt_n), 1),
    }


def _below_a_tenth(stack: StackRecord, served: Served, taken: _Taken) -> tuple[Finding, ...]:
    tokens = {"prefill": taken.cold.prompt_n, "decode": taken.warm.predicted_n}
    measured = {"prefill": taken.cold.prefill_tps, "decode": taken.warm.decode_tps}
    rates = tuple(MeasuredRate(name, measured[name], planned, tokens[name]) for name, planned in taken.planned.items())
    plan = intended(stack, wsl=observe.is_wsl())
    return compare_rates(plan, served, rates, load=taken.load, disk_mib=taken.disk_mib)


def _tokens(engine: EngineClient, seed: int) -> list[int]:
    return engine.tokens(agent_prompt(PROMPT_CHARACTERS, seed))


def _against_plan(stack: StackRecord, taken: _Taken, pids: list[int]) -> tuple[str, ...]:
    """A sentence for each miss of the plan."""
    plan = expected_speed(stack)
    if plan is None or not plan.judges:
        return ()
    memory = stack.plan.memory if stack.plan is not None else None
    lazily = memory.cache_ram + memory.checkpoints if memory else 0  # fills up with use only
    around = Circumstances(
        disk_mib=taken.disk_mib,
        load=taken.load,
        ram_free_mib=ram().available_mib,
        ram_planned_mib=max(round(memory.host.total - lazily), 0) or None if memory else None,
        ram_used_mib=_resident_mib(pids),
        calibrated=plan.hardware.measured is not None,
        spills=observe.is_wsl() and intended(stack).layers > 0,
    )
    measured = {"prefill": taken.cold.prefill_tps, "decode": taken.warm.decode_tps}
    return judge_health(measured, taken.planned, plan.error, around)


def _resident_mib(pids: list[int]) -> float | None:
    import psutil

    try:
        return max((psutil.Process(pid).memory_info().rss / (1 << 20) for pid in pids), default=None)
    except psutil.Error:
        return None


def ask(url: str, token: str, model: str, *, text: str = "Say hello.", max_tokens: int = 48) -> str:
    """One message through the proxy, as a client would send it; its text, shortened. Raises NotSo."""
    import httpx

    body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
    try:
        response = httpx.post(
            f"{url}/v1/messages", json=body, headers={"x-api-key": token}, timeout=600, trust_env=False
        )
        response.raise_for_status()
        content = response.json()["content"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        detail = error.response.text[:300] if isinstance(error, httpx.HTTPStatusError) else str(error)
        raise NotSo(
            f"the proxy at {url} did not answer a message", why=detail, next=command_line("logs", "proxy")
        ) from None
    answer = "".join(block.get("text", "") for block in content if block.get("type") == "text")
    return answer if len(answer) <= 120 else answer[:117] + "…"
