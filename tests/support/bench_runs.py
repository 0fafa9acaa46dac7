"""Bench runs made up for tests."""

from __future__ import annotations

from llmstack.bench.record import BenchRun, MemoryRow
from llmstack.judge import Better, Metric, RunVerdict, Sample, metric


def rate(name: str, *values: float) -> Metric:
    return metric(name, "tokens/s", Better.HIGHER, [Sample(value) for value in values])


def make_run(
    number: int = 1, *, factor: float = 1.0, model: str = "m", argv: tuple[str, ...] = ("-t", "2")
) -> BenchRun:
    metrics = [
        rate("prefill at 0", *(value * factor for value in (400.0, 410.0, 405.0, 402.0))),
        rate("prefill at 2048", *(value * factor for value in (300.0, 310.0, 305.0))),
        rate("decode at 0", *(value * factor for value in (20.0, 20.4, 20.2))),
        rate("decode at 2048", *(value * factor for value in (17.0, 17.4, 17.2))),
        metric("first token cold", "s", Better.LOWER, [Sample(14.0 / factor)]),
        metric("first token warm", "s", Better.LOWER, [Sample(0.5 / factor), Sample(0.6 / factor)]),
        metric("cache hit ratio", "of the prompt", Better.HIGHER, [Sample(0.998), Sample(0.997)]),
    ]
    return BenchRun(
        prefill_tps=350.0 * factor,
        decode_tps=20.2 * factor,
        ttft_cold_s=14.0 / factor,
        ttft_warm_s=0.55 / factor,
        ttft_restart_s=None,
        cache_hit_ratio=0.9975,
        proxy_ttft_overhead_ms=1.2,
        predicted={},
        verdict=RunVerdict(True, ()),
        metrics={m.name: m for m in metrics},
        expected={"prefill at 0": 420.0, "prefill at 2048": 330.0, "decode at 0": 21.0, "decode at 2048": 18.0},
        error=0.2,
        memory=(
            MemoryRow("RTX 4070", 6000, 900, 400, 506, 11900, 7700),
            MemoryRow("RAM", 9000, 0, 100, 50, 40000, 9100),
        ),
        prompt_tokens=6000,
        model=model,
        engine="embedded",
        machine="2/2 avx2 24105 ",
        argv=argv,
        mode="quick",
        id=f"1120-1800{number:02}",
        at=1_795_000_000.0 + number,
        seconds=30.0,
    )
