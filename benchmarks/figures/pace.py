"""How well the machine's own pace explains what an engine's speed does while nothing about it changes.

    python -m benchmarks.figures.pace [--minutes 8]

One engine, one model of 60 MB, the same prefill and decode again and again, each behind the look that `bench` takes
before a sample. In windows of WINDOW samples: how far a speed strays from its median, as it is and over the pace.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures.regression import MIDDLE
from llmstack.bench.depths import CHUNK, Prompts
from llmstack.bench.probe_model import write_probe
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import scratch
from llmstack.detect.hardware import detect
from llmstack.engine.find import find
from llmstack.paths import Home

WINDOW = 4  # samples: what a quick run takes of one quantity
DECODED = 64


def windows(values: Sequence[float]) -> list[float]:
    """Medians of WINDOW values in turn, over the median of all."""
    whole = statistics.median(values)
    starts = range(0, len(values) - WINDOW + 1, WINDOW)
    return [statistics.median(values[at : at + WINDOW]) / whole for at in starts]


def row(name: str, speeds: Sequence[float], paces: Sequence[float]) -> str:
    raw, pace = windows(speeds), windows(paces)
    even = windows([speed / beside for speed, beside in zip(speeds, paces, strict=True)])
    cells = [f"{min(found):.2f} to {max(found):.2f}" for found in (raw, pace, even)]
    return f"| {name} | {' | '.join(cells)} | {statistics.correlation(raw, pace):+.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args()
    threads = str(detect().hardware.cpu.physical_cores)
    taken: dict[str, list[tuple[float, float]]] = {f"prefill of {CHUNK}": [], f"decode of {DECODED}": []}
    prefill, decode = taken.values()
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        model = write_probe(MIDDLE, root / "middle.gguf")
        argv = ("-m", str(model), "-c", "4096", "-np", "1", "-t", threads)
        with scratch(home, find(home), argv, model_bytes=model.stat().st_size) as (client, pid):
            prompts, sampler = Prompts(client), Sampler([pid], patience_s=0.0)
            client.complete(prompts.tokens(CHUNK), n_predict=8)
            end = time.monotonic() + options.minutes * 60
            while time.monotonic() < end:
                pace = sampler.look() or 1.0
                prefill.append((client.complete(prompts.tokens(CHUNK), n_predict=1).prefill_tps, pace))
                pace = sampler.look() or 1.0
                decode.append((client.complete(prompts.tokens(4), n_predict=DECODED).decode_tps, pace))
    print(f"| {len(prefill) // WINDOW} windows | speed | pace | speed over pace | correlation |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pairs in taken.items():
        print(row(name, [speed for speed, _ in pairs], [pace for _, pace in pairs]))


if __name__ == "__main__":
    main()
