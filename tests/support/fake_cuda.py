"""A libcuda of a few calls, compiled on the spot: memory is the process's own, up to FAKE_CUDA_MIB of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#include <stdlib.h>
#include <string.h>
static size_t used;
static size_t limit(void) { const char *mib = getenv("FAKE_CUDA_MIB"); return (mib ? strtoull(mib, 0, 10) : 0) << 20; }
int cuInit(unsigned flags) { return getenv("FAKE_CUDA_MIB") ? 0 : 100; }  /* CUDA_ERROR_NO_DEVICE */
int cuDeviceGet(int *device, int number) { *device = number; return number ? 101 : 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = malloc(1); return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuMemAlloc_v2(unsigned long long *at, size_t size) {
    if (used + size > limit()) return 2;  /* CUDA_ERROR_OUT_OF_MEMORY */
    used += size;
    *at = (unsigned long long)malloc(size);
    return *at ? 0 : 2;
}
int cuMemAllocHost_v2(void **at, size_t size) { *at = calloc(1, size); return *at ? 0 : 2; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size) { memcpy((void *)to, from, size); return 0; }
int cuCtxSynchronize(void) { return 0; }
"""


def install(folder: Path) -> Path:
    """libcuda.so.1 in a folder that LD_LIBRARY_PATH may name; the compiler is what builds engines too."""
    source = folder / "cuda.c"
    source.write_text(_SOURCE)
    library = folder / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library
