"""A two-second microbenchmark: how fast threads read RAM, and how fast memory crosses to an NVIDIA card.

RAM is read by libc's memchr over memory that holds no match: it loads every byte once and stores nothing, as a
matrix-vector product does with weights, and ctypes lets go of the interpreter's lock while it runs. Copies to
a card go through the driver's own library (cuMemcpyHtoD), from ordinary and from pinned memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_BLOCK = 256 << 20  # bytes that are read in turn, over all threads: more than most caches
_PIECE = 4 << 20  # bytes read at a time: half a millisecond, shorter than a turn of the scheduler
_ROUNDS_S = 0.8
_COPY = 128 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """GB/s from host to card."""

    pageable_gbps: float
    pinned_gbps: float


def ram_read_gbps(threads: int, *, seconds: float = _ROUNDS_S, block: int = _BLOCK) -> float:
    """GB/s that `threads` threads read together: the sum of their fifth-best pieces, in which nobody interrupted them.

    Raises OSError where libc has no memchr.
    """
    libc = ctypes.CDLL(None)
    try:
        search = libc.memchr
    except AttributeError as error:
        raise OSError(str(error)) from None
    search.restype = ctypes.c_void_p
    search.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    each = max(block // max(threads, 1), _PIECE)
    spent: list[list[float]] = [[] for _ in range(max(threads, 1))]

    def read(address: int, times: list[float]) -> None:
        deadline = time.perf_counter() + seconds
        while not times or time.perf_counter() < deadline:
            for offset in range(0, each - _PIECE + 1, _PIECE):
                began = time.perf_counter()
                search(address + offset, 7, _PIECE)
                times.append(time.perf_counter() - began)

    with contextlib.ExitStack() as stack:
        workers = []
        for times in spent:
            address = stack.enter_context(_memory(each))
            ctypes.memset(address, 1, each)  # real pages, not the kernel's one page of zeros
            workers.append(threading.Thread(target=read, args=(address, times)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return round(sum(_PIECE / sorted(times)[len(times) // 5] for times in spent) / 1e9, 2)


@contextlib.contextmanager
def _memory(size: int) -> Iterator[int]:
    area = mmap.mmap(-1, size)
    view = ctypes.c_char.from_buffer(area)
    try:
        yield ctypes.addressof(view)
    finally:
        del view
        area.close()


def _best_gbps(work: Callable[[], object], size: int, seconds: float) -> float:
    """The best of at least three rounds: whatever else the machine does can only slow a round down."""
    best, rounds, began = 0.0, 0, time.perf_counter()
    while rounds < 3 or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        work()
        best = max(best, size / (time.perf_counter() - started) / 1e9)
        rounds += 1
    return round(best, 2)


class CudaError(Exception):
    """A call of the driver's library failed; the text names it."""


def cuda_link(index: int) -> Link:
    """Copies to card `index` in the driver's order. Raises OSError without a driver, CudaError when it refuses."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: Any) -> None:
        code = getattr(cuda, name)(*arguments)
        if code:
            raise CudaError(f"{name} failed with {code}")

    call("cuInit", 0)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    there, pinned = ctypes.c_uint64(), ctypes.c_void_p()
    try:
        call("cuCtxSetCurrent", context)
        call("cuMemAlloc_v2", ctypes.byref(there), ctypes.c_size_t(_COPY))
        call("cuMemHostAlloc", ctypes.byref(pinned), ctypes.c_size_t(_COPY), 0)

        def copy(source: int) -> None:
            call("cuMemcpyHtoD_v2", there, ctypes.c_void_p(source), ctypes.c_size_t(_COPY))

        with _memory(_COPY) as ordinary:
            ctypes.memset(ordinary, 1, _COPY)
            pageable = _best_gbps(lambda: copy(ordinary), _COPY, 0.3)
        source = pinned.value
        assert source is not None
        return Link(pageable, _best_gbps(lambda: copy(source), _COPY, 0.3))
    finally:
        if pinned.value:
            cuda.cuMemFreeHost(pinned)
        if there.value:
            cuda.cuMemFree_v2(there)
        cuda.cuDevicePrimaryCtxRelease_v2(device)
