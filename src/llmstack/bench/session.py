"""One measurement of the deployed stack: by depth, through the proxy, several at once, after a restart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from llmstack.bench import depths as deep
from llmstack.bench.depths import CHUNK, Depths, Prompts
from llmstack.bench.metrics import Quantity, decode_at, prefill_at, quantity_of
from llmstack.bench.modes import Clock, ModeSettings
from llmstack.bench.parallel import parallel
from llmstack.bench.sample import Sampler, Work
from llmstack.bench.stream import Client
from llmstack.deploy.apply import restart
from llmstack.engine.control import EngineClient
from llmstack.judge import WHOLE, Better, Metric, Sample, compare_runs, metric
from llmstack.paths import Home
from llmstack.stackfile import StackRecord

LOOKS = 2  # more, before anything is called slower
PAUSE_S = 3.0  # before each of them: what slows a machine down comes and goes in seconds
LEAST_COLD = 256  # tokens of the smallest new conversation
_OVERHEAD_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Step:
    """share: of the whole that is done, 0 to 1; left_s: seconds that the rest will take, about."""

    label: str
    share: float
    left_s: float


OnStep = Callable[[Step], None]


@dataclass(slots=True)
class SessionResults:
    """What is measured so far; an interrupt keeps it. shortened: what the time allowed did not suffice for."""

    depths: Depths = field(default_factory=Depths)
    others: dict[str, Metric] = field(default_factory=dict)
    prompt_tokens: int = 0
    agent: str = ""  # the prompt whose first token was timed
    shortened: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, Metric]:
        by_depth = (*self.depths.prefill.values(), *self.depths.decode.values())
        return {m.name: m for m in (*by_depth, *self.others.values())}

    def shortenings(self) -> tuple[str, ...]:
        """What was left out for want of time, as one remark."""
        remarks = list(self.shortened)
        if self.depths.left_out:
            remarks.insert(0, "depths " + ", ".join(f"{depth:,}" for depth in self.depths.left_out) + " were left out")
        if self.depths.chunk < CHUNK:
            remarks.insert(0, f"prefill was measured on {self.depths.chunk} tokens instead of {CHUNK}")
        return (f"kept within the time of this kind of run: {'; '.join(remarks)}",) if remarks else ()


class StepTeller:
    """Turns what happens now into a share of the whole and the time left, from each part's allowance."""

    def __init__(self, on_step: OnStep, settings: ModeSettings, *, restarts: bool) -> None:
        self._on_step = on_step
        self._settings = settings
        self._restart_s = 15.0 * restarts
        self._began = time.perf_counter()
        self._total = settings.effort.seconds * 0.8 + settings.cold_s + settings.rounds * 0.2 + self._restart_s

    def __call__(self, label: str) -> None:
        spent = time.perf_counter() - self._began
        left = max(self._total - spent, self._total * 0.05)
        self._on_step(Step(label, spent / (spent + left), left))

    def finish_depths(self) -> None:
        """The depths may have taken less than they were allowed: what is left is known better now."""
        spent = time.perf_counter() - self._began
        self._total = spent + self._settings.cold_s / 2 + self._settings.rounds * 0.1 + self._restart_s


@dataclass(frozen=True, slots=True)
class BenchSession:
    """The deployed stack and what it is measured with; `measured` is filled as it goes."""

    engine: EngineClient
    client: Client
    sampler: Sampler
    stack: StackRecord
    settings: ModeSettings
    tell: StepTeller
    clock: Clock
    measured: SessionResults

    def measure(self) -> None:
        settings, depths, stack = self.settings, self.measured.depths, self.stack
        deep.measure(self.engine, self.sampler, self._depths(), settings.effort, self.tell, into=depths)
        self.tell.finish_depths()
        prompts = Prompts(self.engine)
        rate = min(m.median for m in depths.prefill.values())
        size = cold_size(min(settings.cold_tokens, (stack.n_ctx_slot - 1024) * 3 // 4), rate * settings.cold_s / 2)
        self._first_tokens(prompts.text(size))
        self.tell("the proxy's own cost")
        if _OVERHEAD_TOKENS / rate < self.clock.left_s / 4:
            self._overhead(prompts.text(_OVERHEAD_TOKENS))
        else:
            self.measured.shortened.append("the proxy's own cost was left out")
        if stack.n_parallel > 1:
            self._streams(prompts, min(stack.n_parallel, 4))

    def look_again(self, before: Sequence[Mapping[str, Metric]]) -> None:
        """Until nothing is slower than before, LOOKS times at most; of all looks the better values count."""
        for _ in range(LOOKS):
            slow = {row.name for row in compare_runs(before, self.measured.metrics).slower}
            if not slow:
                return
            self.tell("looking again at what was slower than before")
            self._second_look(slow)

    def after_restart(self, home: Home) -> None:
        """Empties the server's caches."""
        self.tell("restarting the server")
        restart(home, ("server",), lambda _: None)
        self.tell("the first token after the restart")
        again = self.client.through_proxy(self.measured.agent, "Why?")
        self._keep(metric(Quantity.FIRST_RESTARTED.value, "s", Better.LOWER, [Sample(again.seconds)]))

    def _keep(self, taken: Metric) -> None:
        self.measured.others[taken.name] = taken

    def _depths(self) -> tuple[int, ...]:
        """Of the kind of run, those that this context has room for; a negative one is the deepest."""
        deepest = self.stack.n_ctx_slot - CHUNK - self.settings.effort.decode_tokens - deep.ROOM
        depths = [deepest if depth < 0 else depth for depth in self.settings.depths]
        return tuple(sorted({depth for depth in depths if 0 <= depth <= deepest} or {0}))

    def _streams(self, prompts: Prompts, streams: int) -> None:
        self.tell(f"{streams} streams at once")
        alone = min(m.median for m in self.measured.depths.decode.values())  # together they are as fast at least
        limit_s = self.clock.left_s / 3
        tokens = min(self.settings.effort.decode_tokens, int(limit_s * alone / streams))
        if tokens < 4:
            self.measured.shortened.append(f"{streams} streams at once were left out")
            return
        self._keep(parallel(self.engine, self.sampler, prompts, streams, tokens, seconds=min(10.0, limit_s)))

    def _first_tokens(self, agent: str) -> None:
        """Of a new conversation that begins with `agent`, and of its next turns."""
        settings, measured = self.settings, self.measured
        self.tell("the first token of a new conversation, through the proxy")
        pace = self.sampler.look()
        cold = self.client.through_proxy(agent, "Why?")
        measured.prompt_tokens, measured.agent = cold.prompt_tokens, agent
        sample = Sample(cold.seconds, self.sampler.watch.others(), pace)
        self._keep(metric(Quantity.FIRST_COLD.value, "s", Better.LOWER, [sample]))
        hits: list[Sample] = []

        def again() -> Work:
            warm = self.client.through_proxy(agent, f"And then? ({len(hits)})")
            hits.append(Sample(warm.hit_ratio))
            return Work(1, warm.seconds)

        self.tell("the first token of its next turns")
        name, limit_s = Quantity.FIRST_WARM.value, settings.cold_s / 4
        self._keep(self.sampler.duration(name, again, repeats=settings.warm, seconds=limit_s))
        self._keep(metric(Quantity.HIT_RATIO.value, "of the prompt", Better.HIGHER, hits))

    def _overhead(self, text: str) -> None:
        """The difference of a warm first token with and without the proxy, taken in turns."""
        client, settings = self.client, self.settings
        client.through_proxy(text, "go", max_tokens=1)
        taken: list[Sample] = []
        deadline = time.perf_counter() + min(settings.cold_s, self.clock.left_s / 2)
        while len(taken) < settings.rounds and (len(taken) < 3 or time.perf_counter() < deadline):
            pace = self.sampler.look(0.5)
            proxied = client.through_proxy(text, "go", max_tokens=1).seconds
            direct = client.direct(text, "go", max_tokens=1).seconds
            taken.append(Sample((proxied - direct) * 1000, self.sampler.watch.others(), pace))
        # A round is shorter than a tick of the processors' clocks, so one load stands for all.
        load = statistics.median_high(sample.load for sample in taken)
        samples = [sample._replace(load=load) for sample in taken]
        self._keep(metric(Quantity.OVERHEAD.value, "ms", Better.LOWER, samples))

    def _second_look(self, slow: set[str]) -> None:
        measured, clock = self.measured, self.clock
        depths = [d for d in measured.depths.prefill if {prefill_at(d), decode_at(d), WHOLE} & slow]
        effort = replace(self.settings.effort, seconds=min(self.settings.effort.seconds, clock.left_s * 0.6))
        time.sleep(min(PAUSE_S, max(clock.left_s, 0.0) / 4))
        sample_s = measured.depths.chunk / min(m.median for m in measured.depths.prefill.values())
        if depths and effort.seconds > 4 * sample_s:
            chunk = measured.depths.chunk
            second = deep.measure(self.engine, self.sampler, depths, effort, self.tell, chunk=chunk)
            pairs = ((measured.depths.prefill, second.prefill), (measured.depths.decode, second.decode))
            for first, other in pairs:
                first.update({depth: m for depth, m in other.items() if m.median > first[depth].median})
        elif depths:
            measured.shortened.append("there was no time for a second look at what was slower")
        timed = {name: m for name, m in measured.others.items() if name in slow and _is_first_token(name)}
        if timed and sum(m.median for m in timed.values()) * 2 < clock.left_s:
            agent, tokens = measured.agent, measured.prompt_tokens
            self._first_tokens(Prompts(self.engine).text(tokens))
            measured.agent, measured.prompt_tokens = agent, tokens
            better = {name: m for name, m in timed.items() if m.median < measured.others[name].median}
            measured.others |= better


def cold_size(tokens: int, possible: float) -> int:
    """Tokens of the new conversation: halved until possible, so that another run of a similar speed reads as many."""
    while tokens > possible and tokens > LEAST_COLD:
        tokens //= 2
    return max(tokens, LEAST_COLD)


def _is_first_token(name: str) -> bool:
    quantity = quantity_of(name)
    return quantity is not None and quantity.is_first_token
