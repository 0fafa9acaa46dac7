"""Our prefill and decode beside llama-bench's, on the same engine build, model and flags, taken in turns.

    python -m benchmarks.figures.llama_bench --bin FOLDER [--threads N] [--pairs 8] [--model F16 --model Q4_K]


FOLDER holds llama-server and llama-bench of one build. The models are made up: `tiny` takes 2 ms a token, where what a
server does for each token shows; the others have a token time as people have it. Each measurement has a process of its
own, as llama-bench's has. Who comes first changes with each pair; the medians of all pairs are held against each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from llmstack.bench.depths import CHUNK, Prompts
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.sample import Sampler
from llmstack.bench.scratch import scratch
from llmstack.detect.hardware import detect
from llmstack.engine.control import EngineClient
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.engine.flags import parse_help
from llmstack.gguf import GgmlType
from llmstack.paths import Home

_SMALL = ProbeShape("F16", layers=6, d=1024, heads=16, kv_heads=4, n_ff=2816, weights=GgmlType.F16)
MODELS = {
    "F16": _SMALL,
    "Q4_K": ProbeShape("Q4_K", layers=16, d=2048, heads=32, kv_heads=8, n_ff=5632),
    "tiny": replace(_SMALL, name="tiny", weights=GgmlType.Q4_K),
}
DECODED = 48

Speeds = tuple[float, float]  # prefill and decode, tokens/s


def theirs(folder: Path, model: Path, threads: int) -> Speeds:
    """(pp512, tg48), tokens/s: one repetition, after llama-bench's own warm-up."""
    command = [str(folder / "llama-bench"), "-m", str(model), "-p", str(CHUNK), "-n", str(DECODED), "-r", "1"]
    command += ["-t", str(threads), "-fa", "1", "-ub", "512", "-o", "json"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    rows = json.loads(done.stdout)
    return next(r["avg_ts"] for r in rows if r["n_prompt"]), next(r["avg_ts"] for r in rows if r["n_gen"])


def ours(client: EngineClient, prompts: Prompts) -> Speeds:
    """The same work, after the same warm-up: llama-bench runs each test once before it counts."""
    client.complete(prompts.tokens(CHUNK), n_predict=DECODED)
    prefill = client.complete(prompts.tokens(CHUNK), n_predict=1).prefill_tps
    return prefill, client.complete(prompts.tokens(4), n_predict=DECODED + 1).decode_tps


def compared(home: Home, engine: Engine, folder: Path, model: Path, threads: int, pairs: int) -> list[str]:
    """Rows of the table for one model."""
    argv = ("-m", str(model), "-c", "2048", "-np", "1", "-t", str(threads), "-fa", "on", "-ub", "512")
    found: list[tuple[Speeds, Speeds]] = []
    sampler = Sampler([], patience_s=120.0)

    def mine() -> Speeds:
        with scratch(home, engine, argv, model_bytes=model.stat().st_size) as (client, _):
            return ours(client, Prompts(client))

    for number in range(pairs):
        sampler.look(10.0)
        first = mine() if number % 2 else None
        other = theirs(folder, model, threads)
        found.append((first or mine(), other))
        print(f"  {model.stem}: ours {found[-1][0]}, llama-bench {found[-1][1]}", flush=True)
    rows = []
    size = f"{model.stem}, {model.stat().st_size / 1e6:.0f} MB"
    for index, name in enumerate((f"prefill of {CHUNK}", f"decode of {DECODED}")):
        mine_all, their_all = ([pair[side][index] for pair in found] for side in (0, 1))
        here, there = statistics.median(mine_all), statistics.median(their_all)
        spread = max((max(x) - min(x)) / statistics.median(x) for x in (mine_all, their_all))
        rows.append(f"| {size} | {name} | {here:.1f} | {there:.1f} | {here / there - 1:+.1%} | {spread:.0%} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=detect().hardware.cpu.physical_cores)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--model", choices=MODELS, action="append", help="several: one after the other")
    options = parser.parse_args()
    os.environ["LD_LIBRARY_PATH"] = str(options.bin)
    program = options.bin / "llama-server"
    told = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    engine = Engine(
        "llama-server", EngineKind.BINARY, EngineOrigin.CONFIGURED, (str(program),), flags=parse_help(told.stdout)
    )
    table = ["| model | | ours, tokens/s | llama-bench | medians differ by | widest spread |"]
    table.append("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="llmstack-figures-") as folder:
        root = Path(folder)
        home = Home(root / "config", root / "state", root / "data", root / "cache")
        for name in options.model or MODELS:
            model = write_probe(MODELS[name], root / f"{name}.gguf")
            table += compared(home, engine, options.bin, model, options.threads, options.pairs)
    print("\n".join(table))


if __name__ == "__main__":
    main()
