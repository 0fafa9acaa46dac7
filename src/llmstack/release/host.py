"""What of this machine decides which release it can run."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from llmstack.release.assets import Version, version_of
from llmstack.release.choose import Host, NvidiaDriver


def this_host() -> Host:
    return Host(
        system=platform.system().lower(),
        processor=platform.machine(),
        glibc=_glibc(),
        nvidia=_nvidia(),
        has_gpu=any(Path("/dev/dri").glob("renderD*")),
    )


def _glibc() -> Version | None:
    """`glibc 2.36` as the C library itself says it (confstr(3)); None for another one."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc":
            return version_of(version)
    return None


def _nvidia() -> NvidiaDriver | None:
    """None where no driver answers or names a card (nvml.h)."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no library, no driver: no card
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        cards = [
            (_text(pynvml.nvmlDeviceGetName(handle)), tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)))
            for handle in handles
        ]
        reported = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())  # 13040 is 13.4
        driver = _text(pynvml.nvmlSystemGetDriverVersion()).split(".")[0]
    except (pynvml.NVMLError, AttributeError):
        return None
    finally:
        pynvml.nvmlShutdown()
    cuda = (reported // 1000, reported % 1000 // 10)
    return NvidiaDriver(int(driver) if driver.isdigit() else 0, cuda, tuple(cards)) if cards else None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
