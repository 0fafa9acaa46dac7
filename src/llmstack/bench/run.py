"""The bench: what a coding agent feels, measured on the deployed stack, judged, kept."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llmstack.bench import depths as deep
from llmstack.bench.depths import CHUNK, Depths, Effort, Prompts
from llmstack.bench.memory import memory_use
from llmstack.bench.parallel import parallel
from llmstack.bench.record import Run, history, like, new_id, remember
from llmstack.bench.sample import Sampler, Work
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
from llmstack.judge import Better, Comparison, Metric, compare, judge, metric
from llmstack.paths import Home
from llmstack.plan.calibrate import Observation

Progress = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """share: of the whole that is done, 0 to 1; left_s: seconds that the rest will take, about."""

    label: str
    share: float
    left_s: float


class Mode(enum.StrEnum):
    QUICK = "quick"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Settings:
    """depths: marks in tokens, 0 for `to the context's end`; seconds: of the depths, of waiting for quiet, of the rest.

    cold_tokens: the size of the first prompt that is timed through the proxy.
    """

    depths: tuple[int, ...]
    effort: Effort
    patience_s: float
    warm: int
    rounds: int
    cold_tokens: int
    cold_s: float


SETTINGS = {
    Mode.QUICK: Settings((0, 2048), Effort(4, 32, 22.0), 6.0, 2, 9, 6_000, 8.0),
    Mode.NORMAL: Settings((0, 2048, 8192, 16384), Effort(5, 64, 150.0), 20.0, 3, 15, 20_000, 90.0),
    Mode.FULL: Settings((0, 2048, 8192, 16384, 32768, -1), Effort(7, 128, 1500.0), 60.0, 5, 31, 20_000, 600.0),
}


@dataclass(slots=True)
class _Found:
    """What is measured so far; an interrupt keeps it."""

    depths: Depths = field(default_factory=Depths)
    others: dict[str, Metric] = field(default_factory=dict)
    prompt_tokens: int = 0
    agent: str = ""  # the prompt whose first token was timed

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
    began, complete = time.time(), True
    earlier = history(home)
    machine = calibration.machine_of(detect().hardware)
    plan = expected(stack)
    tell = _Teller(progress, settings, restart=mode is Mode.FULL if with_restart is None else with_restart)
    with EngineClient(stack.server.url, home.server_key) as engine, _client(home, stack) as client:
        pids = [status.pid for status in supervisor_for(home).status().values() if status.pid]
        sampler = Sampler(pids, patience_s=settings.patience_s)
        try:
            _measure(engine, client, sampler, stack, settings, found, tell)
            before = [run.metrics for run in earlier if (run.model, run.machine) == (stack.model.name, machine)]
            if compare(before, found.metrics).slower:
                tell("looking again at what was slower than before")
                _look_again(engine, sampler, stack, settings, found, tell, before)
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
        verdict=judge(metrics, predictions, error),
        metrics=metrics,
        expected=predictions,
        error=error,
        memory=memory,
        prompt_tokens=found.prompt_tokens,
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
    against = compare([run.metrics for run in like(earlier, draft)], metrics)
    run = _judged(draft, against)
    remember(home, run)
    if plan is not None and plan.judges and complete:
        _calibrate(home, plan, found, stack.server.engine)
    return run


def _judged(run: Run, against: Comparison) -> Run:
    import msgspec

    return msgspec.structs.replace(run, verdict=judge(run.metrics, run.expected, run.error, against))


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
) -> None:
    deep.measure(engine, sampler, _marks(stack, settings), settings.effort, tell, into=found.depths)
    tell.finish_depths(settings)
    prompts = Prompts(engine)
    rate = found.depths.prefill[0].median if 0 in found.depths.prefill else 100.0
    size = min(settings.cold_tokens, int(rate * settings.cold_s / 2), (stack.n_ctx_slot - 1024) * 3 // 4)
    _first_tokens(client, sampler, prompts.text(max(size, 256)), settings, found, tell)
    tell("the proxy's own cost")
    _overhead(client, sampler, prompts.text(256), settings, found)
    if stack.n_parallel > 1:
        tell(f"{min(stack.n_parallel, 4)} streams at once")
        streams = parallel(engine, sampler, prompts, min(stack.n_parallel, 4), settings.effort.decode_tokens)
        found.others[streams.name] = streams


def _first_tokens(
    client: Client, sampler: Sampler, agent: str, settings: Settings, found: _Found, tell: _Teller
) -> None:
    tell("the first token of a new conversation, through the proxy")
    sampler.wait_quiet()
    sampler.watch.restart()
    cold = client.through_proxy(agent, "What does the first function do?")
    found.prompt_tokens, found.agent = cold.prompt_tokens, agent
    found.others["first token cold"] = metric(
        "first token cold", "s", Better.LOWER, [cold.seconds], [sampler.watch.others()]
    )
    hits: list[float] = []

    def again() -> Work:
        warm = client.through_proxy(agent, f"And the one after it? ({len(hits)})")
        hits.append(warm.hit_ratio)
        return Work(1, warm.seconds)

    tell("the first token of its next turns")
    found.others["first token warm"] = sampler.duration(
        "first token warm", again, repeats=settings.warm, seconds=settings.cold_s / 4
    )
    found.others["cache hit ratio"] = metric("cache hit ratio", "of the prompt", Better.HIGHER, hits)


def _overhead(client: Client, sampler: Sampler, text: str, settings: Settings, found: _Found) -> None:
    """The difference of a warm first token with and without the proxy, taken in turns."""
    client.through_proxy(text, "go", max_tokens=1)
    differences: list[float] = []
    loads: list[float] = []
    deadline = time.perf_counter() + settings.cold_s
    while len(differences) < settings.rounds and (len(differences) < 3 or time.perf_counter() < deadline):
        sampler.wait_quiet(0.5)
        sampler.watch.restart()
        proxied = client.through_proxy(text, "go", max_tokens=1).seconds
        direct = client.direct(text, "go", max_tokens=1).seconds
        differences.append((proxied - direct) * 1000)
        loads.append(sampler.watch.others())
    load = sorted(loads)[len(loads) // 2]  # a round is shorter than a tick of the processors' clocks
    found.others["proxy overhead"] = metric(
        "proxy overhead", "ms", Better.LOWER, differences, [load] * len(differences)
    )


def _after_restart(home: Home, client: Client, found: _Found, tell: _Teller) -> None:
    tell("restarting the server")
    restart(home, ("server",), lambda _: None)
    tell("the first token after the restart")
    again = client.through_proxy(found.agent, "What does the first function do?")
    found.others["first token after restart"] = metric("first token after restart", "s", Better.LOWER, [again.seconds])


def _look_again(
    engine: EngineClient,
    sampler: Sampler,
    stack: Stack,
    settings: Settings,
    found: _Found,
    tell: _Teller,
    before: list[dict[str, Metric]],
) -> None:
    """A second look before anything is called slower: the better of both counts."""
    slow = {row.name for row in compare(before, found.metrics).slower}
    marks = [mark for mark in found.depths.prefill if {f"prefill at {mark}", f"decode at {mark}"} & slow]
    if not marks:
        return
    time.sleep(1.0)
    second = deep.measure(engine, sampler, marks, settings.effort, tell)
    for first, other in ((found.depths.prefill, second.prefill), (found.depths.decode, second.decode)):
        first.update({mark: m for mark, m in other.items() if m.median > first[mark].median})


def _predictions(plan: Expected, found: _Found) -> dict[str, float]:
    """What the plan expects of exactly what was measured: tokens/s, and s for the first tokens."""
    made = {f"prefill at {mark}": CHUNK / plan.prefill_s(CHUNK, mark) for mark in found.depths.prefill}
    made |= {f"decode at {mark}": 1 / plan.decode_s(mark) for mark in found.depths.decode}
    if found.prompt_tokens:
        made["first token cold"] = plan.prefill_s(found.prompt_tokens) + plan.decode_s(found.prompt_tokens)
    return {name: float(f"{value:.5g}") for name, value in made.items()}


def observations(plan: Expected, found: Depths) -> list[Observation]:
    """Timings for `plan.calibrate.fit`: only those taken while the machine was quiet."""
    seen = [
        plan.observation(decode=False, tokens=CHUNK, depth=mark, seconds=CHUNK / m.median)
        for mark, m in found.prefill.items()
        if not m.busy
    ]
    seen += [
        plan.observation(decode=True, tokens=1, depth=mark, seconds=1 / m.median)
        for mark, m in found.decode.items()
        if not m.busy
    ]
    return seen


def _calibrate(home: Home, plan: Expected, found: _Found, engine: str) -> None:
    """Feeds what was measured to the next plan."""
    from llmstack.plan.calibrate import fit

    seen = observations(plan, found.depths)
    if seen:
        with contextlib.suppress(OSError):
            known = calibration.apply(calibration.read(home, plan.hardware), plan.hardware, engine)
            calibration.remember(home, known, fit(known, seen, engine=engine), engine)


def _median(metrics: dict[str, Metric], name: str) -> float | None:
    return metrics[name].median if name in metrics else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
