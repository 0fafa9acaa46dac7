"""`python -m benchmarks.gpu PHASE… --out DIR`; benchmarks/gpu/run calls it, on a bare machine too."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu.bed import bed_at
from benchmarks.gpu.build import build
from benchmarks.gpu.pack import pack
from benchmarks.gpu.phases import ALONE, EVERY, PHASES, REPORT
from benchmarks.gpu.report import report
from benchmarks.gpu.results import Cell, Results
from llmstack.detect import drivers
from llmstack.errors import StackError

MINUTES = 9.0


def _arguments() -> argparse.Namespace:
    whats = {**ALONE, **{phase.name: phase.what for phase in PHASES}, **REPORT}
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu/run",
        description=__doc__,
        epilog="\n".join(f"  {name:<8}{what}" for name, what in whats.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("phases", nargs="+", metavar="PHASE", choices=EVERY)
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept; call it again to go on")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all phases of this call together")
    parser.add_argument("--engine", type=Path, help="a llama-server instead of the built one")
    parser.add_argument("--archive", type=Path, help="the engine's source, if not DIR/pack's")
    parser.add_argument("--backend", help="of the build: cuda where an NVIDIA card is, else cpu")
    parser.add_argument("--python", default=platform.python_version().rpartition(".")[0], help="of the bare machine")
    parser.add_argument("--stand-in", action="store_true", help="ggml-rpc-server instead of a card")
    parser.add_argument("--small", action="store_true", help="models of megabytes, to try the kit itself")
    parser.add_argument("--model", action="append", default=[], help="only this one (several times for several)")
    parser.add_argument("--skip", action="append", default=[], metavar="STEP", help="leave a step out, by its name")
    parser.add_argument("--again", action="store_true", help="what failed is tried again")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """0: all of it is measured; 75: the time did not reach, call it again; 1: it cannot be."""
    options = _arguments()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + options.minutes * 60
    about = {"date": time.strftime("%Y-%m-%d")}
    try:
        for name in options.phases:
            _say(f"phase {name}")
            left = (deadline - time.monotonic()) / 60
            if name == "report":
                print(report(out))
            elif name == "pack":
                row = pack(out, options.python, _say)
                Results(out / "pack.json", about).add("pack", row)
                print(f"{out / 'pack'}: {row['mib']} MiB, {len(row['files'])} files")
            elif name == "build":
                archive = options.archive or next(iter((out / "pack").glob("*.tar.gz")), out / "pack")
                backend = options.backend or ("cuda" if drivers.read().cards else "cpu")
                done = Results(out / "build.json", about)
                make = partial(build, out, archive, backend, _say, left)
                if not done.take_all([Cell(backend, make, 0)], minutes=left, again=True, say=_say):
                    return 75
                if "error" in done.rows[backend]:
                    raise StackError(done.rows[backend]["error"], why=done.rows[backend]["why"])
            else:
                phase = next(phase for phase in PHASES if phase.name == name)
                kind = {"stand_in": options.stand_in, "small": options.small, "only": tuple(options.model)}
                with bed_at(out, options.engine, **kind, say=_say) as bed:
                    results = Results(out / f"{name}.json", {**about, **bed.about()})
                    cells = (cell for cell in phase.cells(bed) if cell.key not in options.skip)
                    if not results.take_all(cells, minutes=left, again=options.again, say=_say):
                        return 75
    except StackError as error:
        _say(f"error: {error}" + (f"\n  why: {error.why}" if error.why else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
