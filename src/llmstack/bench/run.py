"""The bench: what a coding agent feels, measured on the deployed stack, judged, kept."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace

import msgspec

from llmstack.bench import depths as deep
from llmstack.bench.depths import CHUNK, Depths, Prompts
from llmstack.bench.memory import memory_use
from llmstack.bench.modes import SETTINGS, Clock, Mode, Settings
from llmstack.bench.parallel import parallel
from llmstack.bench.record import Run, comparable, history, like, new_id, remember
from llmstack.bench.sample import Pace, Sampler, Work, beside, unpaced
from llmstack.bench.stream import Client
from llmstack.deploy import keys, record
from llmstack.deploy.apply import restart
from llmstack.deploy.expected import Expected, expected
from llmstack.deploy.record import Stack
from llmstack.deploy.supervisors import supervisor_for
from llmstack.detect import calibration
from llmstack.detect.hardware import detect
from llmstack.engine.control import EngineClient
from llmstack.errors import NotSo
from llmstack.judge import WHOLE, Better, Metric, Sample, compare_runs, metric, verdict_on
from llmstack.paths import Home
from llmstack.plan.calibrate import Observation

LOOKS = 2  # more, before anything is called slower
PAUSE_S = 3.0  # before each of them: what slows a machine down comes and goes in seconds
LEAST_COLD = 256  # tokens of the smallest new conversation
_OVERHEAD_TOKENS = 256

Progress = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """share: of the whole that is done, 0 to 1; left_s: seconds that the rest will take, about."""

    label: str
    share: float
    left_s: float


@dataclass(slots=True)
class _Found:
    """What is measured so far; an interrupt keeps it."""

    depths: Depths = field(default_factory=Depths)
    others: dict[str, Metric] = field(default_factory=dict)
    prompt_tokens: int = 0
    agent: str = ""  # the prompt whose first token was timed
    shortened: list[str] = field(default_factory=list)  # what the time allowed did not suffice for

    @property
    def metrics(self) -> dict[str, Metric]:
        marks = (*self.depths.prefill.values(), *self.depths.decode.values())
        return {m.name: m for m in (*marks, *self.others.values())}


def bench(home: Home, progress: Progress, *, mode: Mode = Mode.NORMAL, with_restart: bool | None = None) -> Run:
    """Measures the deployed stack, compares it with its plan and with earlier runs, and keeps the result.

    with_restart: also measures the first token after a restart of the server (which empties its caches); None:
    in a full run only. Ctrl-C ends it early: the result then holds what was measured. Raises NotSo when nothing
    is deployed or nothing answers.
    """
    stack = record.read(home)
    if stack is None:
        raise NotSo("nothing is deployed yet", next="llmstack up MODEL   or   llmstack up --demo")
    settings = SETTINGS[mode]
    found = _Found()
    began, complete, clock = time.time(), True, Clock(settings.total_s)
    earlier = history(home)
    machine = calibration.machine_of(detect().hardware)
    plan = expected(stack)
    tell = _Teller(progress, settings, restart=mode is Mode.FULL if with_restart is None else with_restart)
    with EngineClient(stack.server.url, home.server_key) as engine, _client(home, stack) as client:
        pids = [status.pid for status in supervisor_for(home).status().values() if status.pid]
        sampler = Sampler(pids, patience_s=settings.patience_s, pace=_pace(plan))
        try:
            _measure(engine, client, sampler, stack, settings, found, tell, clock)
            before = [
                comparable(run, found.depths.chunk, found.prompt_tokens)
                for run in earlier
                if (run.model, run.machine) == (stack.model.name, machine)
            ]
            for _ in range(LOOKS):
                if not compare_runs(before, found.metrics).slower:
                    break
                tell("looking again at what was slower than before")
                _look_again(engine, client, sampler, settings, found, tell, before, clock)
            if tell.restart:
                _after_restart(home, client, found, tell)
        except KeyboardInterrupt:
            if not found.metrics:
                raise
            complete = False
        memory = memory_use(stack, pids)
    now = time.time()
    metrics = found.metrics
    predictions = _predictions(plan, found) if plan is not None and plan.judges else {}
    error = plan.error if plan is not None else 0.5
    draft = Run(
        prefill_tps=_rounded(found.depths.cold_tps) or _median(metrics, "prefill at 0"),
        decode_tps=_median(metrics, "decode at 0"),
        ttft_cold_s=_median(metrics, "first token cold"),
        ttft_warm_s=_median(metrics, "first token warm"),
        ttft_restart_s=_median(metrics, "first token after restart"),
        cache_hit_ratio=_median(metrics, "cache hit ratio"),
        proxy_ttft_overhead_ms=_median(metrics, "proxy overhead"),
        predicted=stack.plan.get("predicted") or {},
        verdict=verdict_on(metrics, predictions, error),
        metrics=metrics,
        expected=predictions,
        error=error,
        memory=memory,
        prompt_tokens=found.prompt_tokens,
        chunk=found.depths.chunk,
        model=stack.model.name,
        engine=stack.server.engine,
        machine=machine,
        argv=tuple(stack.plan.get("argv", ())) or stack.server.argv,
        mode=mode.value,
        id=new_id((run.id for run in earlier), now),
        at=now,
        seconds=round(now - began, 1),
        complete=complete,
    )
    against = compare_runs([comparable(run, draft.chunk, draft.prompt_tokens) for run in like(earlier, draft)], metrics)
    verdict = verdict_on(metrics, predictions, error, against)
    run = msgspec.structs.replace(
        draft, verdict=replace(verdict, notes=(*verdict.notes, *_shortened(found)) if complete else verdict.notes)
    )
    remember(home, run)
    if plan is not None and plan.judges and complete:
        _calibrate(home, plan, observations(plan, found.depths, against.slow_itself), stack.server.engine)
    return run


def _shortened(found: _Found) -> tuple[str, ...]:
    """What the time allowed did not suffice for, as one remark."""
    said = list(found.shortened)
    if found.depths.left_out:
        said.insert(0, "depths " + ", ".join(f"{depth:,}" for depth in found.depths.left_out) + " were left out")
    if found.depths.chunk < CHUNK:
        said.insert(0, f"prefill was measured on {found.depths.chunk} tokens instead of {CHUNK}")
    return (f"kept within the time of this kind of run: {'; '.join(said)}",) if said else ()


class _Teller:
    """Turns what happens now into a share of the whole and the time left, from each part's allowance."""

    def __init__(self, progress: Progress, settings: Settings, *, restart: bool) -> None:
        self.restart = restart
        self._progress = progress
        self._began = time.perf_counter()
        self._total = settings.effort.seconds * 0.8 + settings.cold_s + settings.rounds * 0.2 + 15.0 * restart

    def __call__(self, label: str) -> None:
        spent = time.perf_counter() - self._began
        left = max(self._total - spent, self._total * 0.05)
        self._progress(Step(label, spent / (spent + left), left))

    def finish_depths(self, settings: Settings) -> None:
        """The depths may have taken less than they were allowed: what is left is known better now."""
        spent = time.perf_counter() - self._began
        self._total = spent + settings.cold_s / 2 + settings.rounds * 0.1 + 15.0 * self.restart


def _pace(plan: Expected | None) -> Pace:
    if plan is None:
        return beside()
    return beside(plan.assignment.threads) if plan.on_processors else unpaced


def _client(home: Home, stack: Stack) -> Client:
    key = home.server_key.read_text().strip()
    return Client(stack.proxy.url, keys.token(home), stack.server.url, key, stack.model.name)


def _marks(stack: Stack, settings: Settings) -> tuple[int, ...]:
    most = stack.n_ctx_slot - CHUNK - settings.effort.decode_tokens - deep.ROOM
    wanted = [most if mark < 0 else mark for mark in settings.depths]
    return tuple(sorted({mark for mark in wanted if 0 <= mark <= most} or {0}))


def _measure(
    engine: EngineClient,
    client: Client,
    sampler: Sampler,
    stack: Stack,
    settings: Settings,
    found: _Found,
    tell: _Teller,
    clock: Clock,
) -> None:
    deep.measure(engine, sampler, _marks(stack, settings), settings.effort, tell, into=found.depths)
    tell.finish_depths(settings)
    prompts = Prompts(engine)
    rate = min(m.median for m in found.depths.prefill.values())
    size = _cold_size(min(settings.cold_tokens, (stack.n_ctx_slot - 1024) * 3 // 4), rate * settings.cold_s / 2)
    _first_tokens(client, sampler, prompts.text(size), settings, found, tell)
    tell("the proxy's own cost")
    if _OVERHEAD_TOKENS / rate < clock.left_s / 4:
        _overhead(client, sampler, prompts.text(_OVERHEAD_TOKENS), settings, found, clock)
    else:
        found.shortened.append("the proxy's own cost was left out")
    if stack.n_parallel > 1:
        _streams(engine, sampler, prompts, min(stack.n_parallel, 4), settings, found, tell, clock)


def _cold_size(wanted: int, possible: float) -> int:
    """Halved until it is possible: another run of a similar speed then reads a prompt of the same size."""
    while wanted > possible and wanted > LEAST_COLD:
        wanted //= 2
    return max(wanted, LEAST_COLD)


def _streams(
    engine: EngineClient,
    sampler: Sampler,
    prompts: Prompts,
    streams: int,
    settings: Settings,
    found: _Found,
    tell: _Teller,
    clock: Clock,
) -> None:
    tell(f"{streams} streams at once")
    alone = min(m.median for m in found.depths.decode.values())  # together they are as fast at least
    wanted = settings.effort.decode_tokens
    tokens = min(wanted, int(clock.left_s / 3 * alone / streams))
    if tokens < 4:
        found.shortened.append(f"{streams} streams at once were left out")
        return
    together = parallel(engine, sampler, prompts, streams, tokens, seconds=min(10.0, clock.left_s / 3))
    found.others[together.name] = together


def _first_tokens(
    client: Client, sampler: Sampler, agent: str, settings: Settings, found: _Found, tell: _Teller
) -> None:
    tell("the first token of a new conversation, through the proxy")
    pace = sampler.look()
    cold = client.through_proxy(agent, "Why?")
    found.prompt_tokens, found.agent = cold.prompt_tokens, agent
    sample = Sample(cold.seconds, sampler.watch.others(), pace)
    found.others["first token cold"] = metric("first token cold", "s", Better.LOWER, [sample])
    hits: list[Sample] = []

    def again() -> Work:
        warm = client.through_proxy(agent, f"And then? ({len(hits)})")
        hits.append(Sample(warm.hit_ratio))
        return Work(1, warm.seconds)

    tell("the first token of its next turns")
    found.others["first token warm"] = sampler.duration(
        "first token warm", again, repeats=settings.warm, seconds=settings.cold_s / 4
    )
    found.others["cache hit ratio"] = metric("cache hit ratio", "of the prompt", Better.HIGHER, hits)


def _overhead(client: Client, sampler: Sampler, text: str, settings: Settings, found: _Found, clock: Clock) -> None:
    """The difference of a warm first token with and without the proxy, taken in turns."""
    client.through_proxy(text, "go", max_tokens=1)
    taken: list[Sample] = []
    deadline = time.perf_counter() + min(settings.cold_s, clock.left_s / 2)
    while len(taken) < settings.rounds and (len(taken) < 3 or time.perf_counter() < deadline):
        pace = sampler.look(0.5)
        proxied = client.through_proxy(text, "go", max_tokens=1).seconds
        direct = client.direct(text, "go", max_tokens=1).seconds
        taken.append(Sample((proxied - direct) * 1000, sampler.watch.others(), pace))
    load = statistics.median_high(sample.load for sample in taken)  # a round is shorter than a tick of their clocks
    found.others["proxy overhead"] = metric(
        "proxy overhead", "ms", Better.LOWER, [sample._replace(load=load) for sample in taken]
    )


def _after_restart(home: Home, client: Client, found: _Found, tell: _Teller) -> None:
    tell("restarting the server")
    restart(home, ("server",), lambda _: None)
    tell("the first token after the restart")
    again = client.through_proxy(found.agent, "Why?")
    found.others["first token after restart"] = metric(
        "first token after restart", "s", Better.LOWER, [Sample(again.seconds)]
    )


def _look_again(
    engine: EngineClient,
    client: Client,
    sampler: Sampler,
    settings: Settings,
    found: _Found,
    tell: _Teller,
    before: list[dict[str, Metric]],
    clock: Clock,
) -> None:
    """A second look before anything is called slower: the better of both counts."""
    slow = {row.name for row in compare_runs(before, found.metrics).slower}
    marks = [mark for mark in found.depths.prefill if {f"prefill at {mark}", f"decode at {mark}", WHOLE} & slow]
    effort = replace(settings.effort, seconds=min(settings.effort.seconds, clock.left_s * 0.6))
    time.sleep(min(PAUSE_S, max(clock.left_s, 0.0) / 4))
    one = found.depths.chunk / min(m.median for m in found.depths.prefill.values())
    if marks and effort.seconds > 4 * one:
        second = deep.measure(engine, sampler, marks, effort, tell, chunk=found.depths.chunk)
        for first, other in ((found.depths.prefill, second.prefill), (found.depths.decode, second.decode)):
            first.update({mark: m for mark, m in other.items() if m.median > first[mark].median})
    elif marks:
        found.shortened.append("there was no time for a second look at what was slower")
    timed = {name: m for name, m in found.others.items() if name in slow and name.startswith("first token")}
    if timed and sum(m.median for m in timed.values()) * 2 < clock.left_s:
        agent, tokens = found.agent, found.prompt_tokens
        _first_tokens(client, sampler, Prompts(engine).text(tokens), settings, found, tell)
        found.agent, found.prompt_tokens = agent, tokens
        found.others |= {name: m for name, m in timed.items() if m.median < found.others[name].median}


def _predictions(plan: Expected, found: _Found) -> dict[str, float]:
    """What the plan expects of exactly what was measured: tokens/s, and s for the first tokens."""
    size = found.depths.chunk
    made = {f"prefill at {mark}": size / plan.prefill_s(size, mark) for mark in found.depths.prefill}
    made |= {f"decode at {mark}": 1 / plan.decode_s(mark) for mark in found.depths.decode}
    if found.prompt_tokens:
        made["first token cold"] = plan.prefill_s(found.prompt_tokens) + plan.decode_s(found.prompt_tokens)
    return {name: float(f"{value:.5g}") for name, value in made.items()}


def observations(plan: Expected, found: Depths, slow: Set[str] = frozenset()) -> list[Observation]:
    """Timings for `plan.calibrate.fit`: only those taken while the machine was quiet, and not slow itself."""
    seen = [
        plan.observation(decode=False, tokens=found.chunk, depth=mark, seconds=found.chunk / m.median)
        for mark, m in found.prefill.items()
        if not m.busy and m.name not in slow
    ]
    seen += [
        plan.observation(decode=True, tokens=1, depth=mark, seconds=1 / m.median)
        for mark, m in found.decode.items()
        if not m.busy
        and m.name not in slow
        and not plan.assignment.model_guesses  # how many guesses hold says nothing about rates
    ]
    return seen


def _calibrate(home: Home, plan: Expected, seen: list[Observation], engine: str) -> None:
    """Feeds what was measured to the next plan."""
    from llmstack.plan.calibrate import fit

    if seen:
        with contextlib.suppress(OSError):
            known = calibration.apply(calibration.read(home, plan.hardware), plan.hardware, engine)
            calibration.remember(home, known, fit(known, seen, engine=engine), engine)


def _median(metrics: dict[str, Metric], name: str) -> float | None:
    return metrics[name].median if name in metrics else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
