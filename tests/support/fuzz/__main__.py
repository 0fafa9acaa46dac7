"""Each fuzzer for a minute (or `NAME`, or `NAME SEED`); what it finds is printed with its seed."""

from __future__ import annotations

import sys
import time
import traceback

from support.fuzz import bodies, headers, streams, texts

FUZZERS = {"headers": headers.one, "streams": streams.one, "bodies": bodies.one, "texts": texts.one}
SECONDS = 60.0
MOST_SHOWN = 5


def main(argv: list[str]) -> int:
    bad = 0
    for name in argv[:1] or FUZZERS:
        seed, began, shown = int(argv[1]) if len(argv) > 1 else time.time_ns() // 1000 % 10**9, time.monotonic(), 0
        first = seed
        while time.monotonic() - began < SECONDS and shown < MOST_SHOWN:
            try:
                FUZZERS[name](seed)
            except Exception:
                shown += 1
                print(f"--- {name} {seed}\n{traceback.format_exc()[-1500:]}")
            seed += 1
            if len(argv) > 1:
                break
        bad += shown
        print(f"{name}: {seed - first} seeds from {first}, {shown} went wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
