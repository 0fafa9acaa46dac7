"""How fast the machine itself is at this moment: a fixed piece of work on its cores, beside whatever is measured.

A virtual machine's cores run at a half to two thirds of their speed for seconds to minutes while a neighbour uses
the other half of the physical ones, and nothing inside shows it: no other program, no stolen time. The piece is
scrypt (RFC 7914: N 1024, r 8, p 1), about 1 MiB of integer work a core in the standard library's OpenSSL, which lets
go of the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import threading
import time

_N, _R = 1024, 8
_MEMORY = 4 << 20  # bytes that OpenSSL may take; the piece needs 128 * N * r


def pace(threads: int, seconds: float) -> float | None:
    """Pieces/s of the slowest of so many threads that work at once: an engine's threads wait for it too.

    None where this Python's OpenSSL has no scrypt.
    """
    if not hasattr(hashlib, "scrypt"):
        return None
    rates = [0.0] * max(threads, 1)

    def work(place: int) -> None:
        began = now = time.perf_counter()
        done = 0
        while not done or now - began < seconds:
            hashlib.scrypt(b"pace", salt=b"llmstack", n=_N, r=_R, p=1, maxmem=_MEMORY)
            done, now = done + 1, time.perf_counter()
        rates[place] = done / max(now - began, 1e-9)

    workers = [threading.Thread(target=work, args=(place,)) for place in range(len(rates))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return round(min(rates), 1)
