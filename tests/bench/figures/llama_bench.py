"""Our prefill and decode beside llama-bench's, on the same engine build, model and flags, taken in turns.

    python -m bench.figures.llama_bench --bin FOLDER [--threads N] [--pairs 5]   (from tests/, with PYTHONPATH=.)

FOLDER holds llama-server and llama-bench of one build. The model is made up, in F16: every processor's kernels read
it without repacking. The ratio of medians is printed, and the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from llmstack.bench.depths import CHUNK, Prompts
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.scratch import scratch
from llmstack.engine.control import EngineClient
from llmstack.engine.find import Engine, EngineKind, Origin
from llmstack.engine.flags import parse_help
from llmstack.gguf import GgmlType
from llmstack.paths import Home

SHAPE = ProbeShape("f16", layers=6, d=1024, heads=16, kv_heads=4, n_ff=2816, weights=GgmlType.F16)
DECODED = 48


def theirs(folder: Path, model: Path, threads: int) -> tuple[float, float]:
    """(pp512, tg48), tokens/s."""
    command = [str(folder / "llama-bench"), "-m", str(model), "-p", str(CHUNK), "-n", str(DECODED), "-r", "1"]
    command += ["-t", str(threads), "-fa", "1", "-ub", "512", "-o", "json"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    rows = json.loads(done.stdout)
    return next(r["avg_ts"] for r in rows if r["n_prompt"]), next(r["avg_ts"] for r in rows if r["n_gen"])


def ours(client: EngineClient, prompts: Prompts) -> tuple[float, float]:
    prefill = client.complete(prompts.tokens(CHUNK), n_predict=1).prefill_tps
    return prefill, client.complete(prompts.tokens(4), n_predict=DECODED + 1).decode_tps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    os.environ["LD_LIBRARY_PATH"] = str(options.bin)
    program = options.bin / "llama-server"
    told = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    engine = Engine(
        "llama-server", EngineKind.BINARY, Origin.CONFIGURED, (str(program),), flags=parse_help(told.stdout)
    )
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        model = write_probe(SHAPE, root / "f16.gguf")
        argv = ("-m", str(model), "-c", "2048", "-np", "1", "-t", str(options.threads), "-fa", "on", "-ub", "512")
        pairs = []
        with scratch(home, engine, argv, model_bytes=model.stat().st_size) as (client, _):
            prompts = Prompts(client)
            ours(client, prompts)
            for _ in range(options.pairs):
                pairs.append((ours(client, prompts), theirs(options.bin, model, options.threads)))
                print(f"  ours {pairs[-1][0]}, llama-bench {pairs[-1][1]}", flush=True)
    for index, name in enumerate(("prefill of 512", f"decode of {DECODED}")):
        mine, other = ([pair[side][index] for pair in pairs] for side in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
        print(
            f"{name}: ours {statistics.median(mine):.1f}, llama-bench {statistics.median(other):.1f} tokens/s; "
            f"medians differ by {statistics.median(mine) / statistics.median(other) - 1:+.1%}, "
            f"best by {max(mine) / max(other) - 1:+.1%}, pairs by {ratio - 1:+.1%}"
        )


if __name__ == "__main__":
    main()
