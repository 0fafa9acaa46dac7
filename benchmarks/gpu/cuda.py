"""NVIDIA's driver by itself (libcuda, through ctypes): memory held on purpose, and the speed of the link.

`python -m benchmarks.gpu.cuda hold DEVICE MIB` holds so much until its standard input ends.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

MIB = 1 << 20
COPY_MIB, COPIES = 512, 8


class NoDriver(Exception):
    """There is no libcuda, or it does not do what it is asked."""


class Driver:
    """One device's primary context; a number of the driver's own other than 0 is an error."""

    def __init__(self, device: int) -> None:
        try:
            self._lib = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise NoDriver(str(error)) from None
        self._call("cuInit", 0)
        handle, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(handle), device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), handle)
        self._call("cuCtxSetCurrent", self._context)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._lib, name)(*arguments)
        if status:
            raise NoDriver(f"{name}: error {status}")

    def hold(self, mib: int) -> ctypes.c_uint64:
        at = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(mib * MIB))
        return at

    def to_device_gbps(self, *, pinned: bool) -> float:
        """GB/s of copies of COPY_MIB from pinned or from ordinary memory, the best of COPIES."""
        size = COPY_MIB * MIB
        target = self.hold(COPY_MIB)
        if pinned:
            source = ctypes.c_void_p()
            self._call("cuMemAllocHost_v2", ctypes.byref(source), ctypes.c_size_t(size))
        else:
            buffer = ctypes.create_string_buffer(size)
            source = ctypes.cast(buffer, ctypes.c_void_p)
            ctypes.memset(source, 1, size)
        best = float("inf")
        for _ in range(COPIES):
            began = time.perf_counter()
            self._call("cuMemcpyHtoD_v2", target, source, ctypes.c_size_t(size))
            self._call("cuCtxSynchronize")
            best = min(best, time.perf_counter() - began)
        return size / best / 1e9


@contextmanager
def ballast(device: int, mib: int) -> Iterator[None]:
    """So much of a card is in use by another process while the block runs. Raises NoDriver when it cannot be."""
    command = [sys.executable, "-m", "benchmarks.gpu.cuda", "hold", str(device), str(mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        try:
            said = holder.stdout.readline().strip()
            if said != "holds":
                raise NoDriver(said or "the driver could not be asked")
            yield
        finally:
            holder.stdin.close()


def main() -> None:
    device, mib = int(sys.argv[2]), int(sys.argv[3])
    try:
        driver = Driver(device)
        driver.hold(mib)
    except NoDriver as error:
        print(error, flush=True)
        return
    print("holds", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
