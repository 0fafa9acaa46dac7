"""The health check: a real prefill, a second one that must hit the cache, decode, memory, and one answer through the
proxy. What misses the plan is told with its likeliest reason."""

from __future__ import annotations

import time

from llmstack.commands import command_line
from llmstack.deploy import keys
from llmstack.deploy.expected_speed import expected_speed
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect.hardware import ram
from llmstack.detect.load import Watch
from llmstack.engine.control import CompletionTimings, EngineClient
from llmstack.errors import NotSo
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
    """Measures the running stack. Raises NotSo when it does not answer, or when the prompt cache does not hold."""
    server = supervisor_for(home).status().get("server")
    pids = [server.pid] if server is not None and server.pid else []
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
    if warm.hit_ratio < MIN_HIT_RATIO:
        raise NotSo(
            f"the prompt cache does not hold: {warm.cached_n} of {warm.cached_n + warm.prompt_n} tokens were reused",
            why="the same prompt was sent twice, so nearly all of it should have come from the cache",
            next=command_line("logs", "server"),
        )
    planned, findings = _against_plan(stack, cold, warm, watch, load, pids)
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
        findings=findings,
        load=round(load, 3),
    )


def _tokens(engine: EngineClient, seed: int) -> list[int]:
    return engine.tokens(agent_prompt(PROMPT_CHARACTERS, seed))


def _against_plan(
    stack: StackRecord, cold: CompletionTimings, warm: CompletionTimings, watch: Watch, load: float, pids: list[int]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """What the plan expects of this very work (tokens/s), and a sentence for each miss."""
    plan = expected_speed(stack)
    if plan is None or not plan.judges:
        return {}, ()
    depth = warm.cached_n + warm.prompt_n
    planned = {
        "prefill": round(cold.prompt_n / plan.prefill_s(max(cold.prompt_n, 1), cold.cached_n), 1),
        "decode": round(1 / plan.decode_s(depth), 1),
    }
    memory = stack.plan.memory if stack.plan is not None else None
    lazily = memory.cache_ram + memory.checkpoints if memory else 0  # fills up with use only
    around = Circumstances(
        disk_mib=watch.disk_mib(),
        load=load,
        ram_free_mib=ram().available_mib,
        ram_planned_mib=max(round(memory.host.total - lazily), 0) or None if memory else None,
        ram_used_mib=_resident_mib(pids),
        calibrated=plan.hardware.measured is not None,
    )
    measured = {"prefill": cold.prefill_tps, "decode": warm.decode_tps}
    return planned, judge_health(measured, planned, plan.error, around)


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
