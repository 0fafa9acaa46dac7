"""Several conversations at once: what all slots generate together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from llmstack.bench.depths import Prompts
from llmstack.bench.metrics import decode_of
from llmstack.bench.sample import Sampler, Work
from llmstack.engine.control import EngineClient
from llmstack.judge import Metric


def parallel(
    engine: EngineClient, sampler: Sampler, prompts: Prompts, streams: int, tokens: int, *, seconds: float
) -> Metric:
    """tokens/s of `streams` answers generated together, prefill of their short prompts left out."""

    def work() -> Work:
        started = [prompts.tokens(64) for _ in range(streams)]
        began = time.perf_counter()
        with ThreadPoolExecutor(streams) as pool:
            done = list(pool.map(lambda prompt: engine.complete(prompt, n_predict=tokens), started))
        reading = max(t.prompt_ms for t in done) / 1000
        return Work(sum(t.predicted_n for t in done), max(time.perf_counter() - began - reading, 1e-3))

    return sampler.rate(decode_of(streams), work, repeats=3, seconds=seconds)
