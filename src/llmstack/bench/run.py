"""The bench: what a coding agent feels, measured on the deployed stack, judged, kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Set
from dataclasses import dataclass, replace

import msgspec

from llmstack.bench.depths import Depths
from llmstack.bench.memory import memory_use
from llmstack.bench.metrics import Quantity, decode_at, prefill_at
from llmstack.bench.modes import SETTINGS, Clock, Mode
from llmstack.bench.record import BenchRun, MemoryRow, comparable, history, like, new_id, remember
from llmstack.bench.sample import Pace, Sampler, beside, unpaced
from llmstack.bench.session import BenchSession, OnStep, SessionResults, StepTeller
from llmstack.bench.stream import Client
from llmstack.deploy import keys
from llmstack.deploy.ensure_ready import running_stack
from llmstack.deploy.expected_speed import ExpectedSpeed, expected_speed
from llmstack.deploy.listener import refuse_stranger
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect import calibration
from llmstack.detect.hardware import detect
from llmstack.engine.control import EngineClient
from llmstack.judge import Metric, compare_runs, verdict_on
from llmstack.paths import Home
from llmstack.plan.calibrate import ASSUMED_ERROR, Observation
from llmstack.plan.result import stated_json
from llmstack.stackfile import StackRecord


@dataclass(frozen=True, slots=True)
class Occasion:
    """Where and when a run was made. at: seconds since the epoch; seconds: that it took."""

    memory: tuple[MemoryRow, ...]
    machine: str
    mode: Mode
    id: str
    at: float
    seconds: float
    complete: bool


def bench(home: Home, on_step: OnStep, *, mode: Mode = Mode.NORMAL, with_restart: bool | None = None) -> BenchRun:
    """Measures the deployed stack, compares it with its plan and with earlier runs, and keeps the result.

    with_restart: also measures the first token after a restart of the server (which empties its caches); None:
    in a full run only. Ctrl-C ends it early: the result then holds what was measured. Raises NotSo when nothing
    is deployed or nothing answers.
    """
    stack = running_stack(home)
    refuse_stranger(home, stack.proxy.url, "proxy")
    refuse_stranger(home, stack.server.url, "server")
    settings = SETTINGS[mode]
    restarts = mode is Mode.FULL if with_restart is None else with_restart
    measured, complete = SessionResults(), True
    began, clock = time.time(), Clock(settings.total_s)
    earlier = history(home)
    plan = expected_speed(stack)
    machine = calibration.machine_of(stack.plan.hardware if stack.plan is not None else detect().hardware)
    teller = StepTeller(on_step, settings, restarts=restarts)
    with EngineClient(stack.server.url, home.server_key) as engine, _client(home, stack) as client:
        pids = [status.pid for status in supervisor_for(home).status().values() if status.pid]
        sampler = Sampler(pids, patience_s=settings.patience_s, pace=pace_of(plan))
        session = BenchSession(engine, client, sampler, stack, settings, teller, clock, measured)
        try:
            session.measure()
            session.look_again(
                [
                    comparable(run, measured.depths.chunk, measured.prompt_tokens)
                    for run in earlier
                    if (run.model, run.machine) == (stack.model.name, machine)
                ]
            )
            if restarts:
                session.after_restart(home)
        except KeyboardInterrupt:
            if not measured.metrics:
                raise
            complete = False
        memory = memory_use(stack, pids)
    now = time.time()
    identity, seconds = new_id((run.id for run in earlier), now), round(now - began, 1)
    draft = _described(
        stack, plan, measured, Occasion(memory, machine, mode, identity, now, seconds, complete=complete)
    )
    alike = [comparable(run, draft.chunk, draft.prompt_tokens) for run in like(earlier, draft)]
    against = compare_runs(alike, draft.metrics)
    verdict = verdict_on(draft.metrics, draft.expected, draft.error, against)
    notes = (*verdict.notes, *measured.shortenings()) if complete else verdict.notes
    run = msgspec.structs.replace(draft, verdict=replace(verdict, notes=notes))
    remember(home, run)
    if plan is not None and plan.judges and complete:
        _calibrate(home, plan, observations(plan, measured.depths, against.slow_itself), stack.server.engine)
    return run


def _described(
    stack: StackRecord, plan: ExpectedSpeed | None, measured: SessionResults, occasion: Occasion
) -> BenchRun:
    """The run before it is judged against earlier ones."""
    metrics = measured.metrics
    predictions = _predictions(plan, measured) if plan is not None and plan.judges else {}
    error = plan.error if plan is not None else ASSUMED_ERROR
    return BenchRun(
        prefill_tps=_rounded(measured.depths.cold_tps) or _median(metrics, prefill_at(0)),
        decode_tps=_median(metrics, decode_at(0)),
        ttft_cold_s=_median(metrics, Quantity.FIRST_COLD),
        ttft_warm_s=_median(metrics, Quantity.FIRST_WARM),
        ttft_restart_s=_median(metrics, Quantity.FIRST_RESTARTED),
        cache_hit_ratio=_median(metrics, Quantity.HIT_RATIO),
        proxy_ttft_overhead_ms=_median(metrics, Quantity.OVERHEAD),
        predicted=stated_json(stack.plan) if stack.plan is not None else {},
        verdict=verdict_on(metrics, predictions, error),
        metrics=metrics,
        expected=predictions,
        error=error,
        prompt_tokens=measured.prompt_tokens,
        chunk=measured.depths.chunk,
        model=stack.model.name,
        engine=stack.server.engine,
        argv=stack.plan.argv if stack.plan is not None else stack.server.argv,
        memory=occasion.memory,
        machine=occasion.machine,
        mode=occasion.mode.value,
        id=occasion.id,
        at=occasion.at,
        seconds=occasion.seconds,
        complete=occasion.complete,
    )


def pace_of(plan: ExpectedSpeed | None) -> Pace:
    """What is timed beside a measurement of this plan."""
    if plan is None:
        return beside()
    return beside(plan.assignment.threads) if plan.on_processors else unpaced


def _client(home: Home, stack: StackRecord) -> Client:
    key = home.server_key.read_text().strip()
    return Client(stack.proxy.url, keys.token(home), stack.server.url, key, stack.model.name)


def _predictions(plan: ExpectedSpeed, measured: SessionResults) -> dict[str, float]:
    """What the plan expects of exactly what was measured: tokens/s, and s for the first tokens."""
    size = measured.depths.chunk
    expected = {prefill_at(depth): size / plan.prefill_s(size, depth) for depth in measured.depths.prefill}
    expected |= {decode_at(depth): 1 / plan.decode_s(depth) for depth in measured.depths.decode}
    if measured.prompt_tokens:
        tokens = measured.prompt_tokens
        expected[Quantity.FIRST_COLD.value] = plan.prefill_s(tokens) + plan.decode_s(tokens)
    return {name: float(f"{value:.5g}") for name, value in expected.items()}


def observations(plan: ExpectedSpeed, speeds: Depths, slow: Set[str] = frozenset()) -> list[Observation]:
    """Timings for `plan.calibrate.fit`: only those taken while the machine was quiet, and not slow itself."""
    seen = [
        plan.observation(decode=False, tokens=speeds.chunk, depth=mark, seconds=speeds.chunk / m.median)
        for mark, m in speeds.prefill.items()
        if not m.busy and m.name not in slow
    ]
    seen += [
        plan.observation(decode=True, tokens=1, depth=mark, seconds=1 / m.median)
        for mark, m in speeds.decode.items()
        if not m.busy
        and m.name not in slow
        and not plan.assignment.model_guesses  # how many guesses hold says nothing about rates
    ]
    return seen


def _calibrate(home: Home, plan: ExpectedSpeed, seen: list[Observation], engine: str) -> None:
    """Feeds what was measured to the next plan."""
    from llmstack.plan.calibrate import fit

    if seen:
        with contextlib.suppress(OSError):
            hardware = calibration.apply(calibration.read(home, plan.hardware), plan.hardware, engine)
            calibration.remember(home, hardware, fit(hardware, seen, engine=engine), engine)


def _median(metrics: dict[str, Metric], name: str) -> float | None:
    return metrics[name].median if name in metrics else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
