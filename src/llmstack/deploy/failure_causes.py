"""Why a service died, from its last words: one sentence and the command that helps.

Texts: llama.cpp (llama-model-loader.cpp, llama-model.cpp, ggml-cuda.cu, ggml-backend.cpp, ggml-vulkan.cpp,
server-http.cpp, arg.cpp), cudaGetErrorString, vk::to_string, and the NVIDIA driver's lines in the kernel's log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmstack.commands import command_line


@dataclass(frozen=True, slots=True)
class FailureCause:
    what: str
    next: str
    line: str = ""


# A build for the processor it was made on: other processors, and virtual machines that announce instructions such as
# AMX and do not run them, end it by SIGILL, some only at the first matrix of a quantised model.
def _refused() -> FailureCause:
    return FailureCause(
        "it uses an instruction that this processor does not execute (SIGILL): its build was made for another one",
        (
            f"{command_line('engine', 'use', 'embedded')}   or, to build "
            f"one for this processor: {command_line('engine', 'install')}"
        ),
    )


_SMALLER = "{smaller}"


def _causes() -> tuple[tuple[str, str, str], ...]:
    return (
        (
            r"cudaMalloc failed: out of memory|CUDA error: out of memory|OutOfDeviceMemory"
            r"|unable to allocate (?:CUDA|Vulkan|ROCm|SYCL)|failed to allocate (?:CUDA|Vulkan|ROCm|SYCL)",
            "the GPU ran out of memory",
            _SMALLER,
        ),
        (r"bad_alloc|Cannot allocate memory|failed to allocate|unable to allocate", "it ran out of memory", _SMALLER),
        (
            r"GPU is lost|[Gg]PU has fallen off the bus|ErrorDeviceLost|DeviceLostError|VK_ERROR_DEVICE_LOST"
            r"|UR_RESULT_ERROR_DEVICE_LOST|hipErrorNoDevice|(?:CUDA|ROCm|HIP) error: (?:device not ready|unknown error)"
            r"|NVRM: Xid.*: 79\b",
            "the card was lost while it computed: power, heat, its slot, or a fault of the driver",
            f"{command_line('doctor')}   looks whether it is back; if it is not, restart the machine",
        ),
        (
            r"(?:CUDA|ROCm|HIP) error: (?:unspecified launch failure|an illegal memory access|misaligned address"
            r"|an illegal instruction|the launch timed out|uncorrectable ECC error)|hipErrorIllegalAddress"
            r"|hipErrorLaunchFailure",
            "the card stopped in the middle of its work: a fault of the driver, of the engine, or of its memory",
            (
                f"{command_line('doctor')}   looks at the card; if it comes again, another build: "
                f"{command_line('engine', 'install')}"
            ),
        ),
        (
            r"invalid device: (?P<device>[^\s\"']+)",
            "the engine has no device {device}: it is gone, or the engine lists it and cannot use it",
            (
                f"{command_line('engine', 'list')}   shows what it sees. Where the device is still there, "
                f"{command_line('engine', 'install')} builds another engine, and "
                f"{command_line('up', 'MODEL', '--set', 'dev=none')}   computes on the processor; where it is gone, "
                f"{command_line('up')}   plans without it"
            ),
        ),
        (
            r"driver version is insufficient|no CUDA-capable device|driver/library version mismatch"
            r"|ggml_cuda_init: failed|Failed to initialize NVML",
            "the GPU driver does not work",
            command_line("doctor"),
        ),
        (
            r"[Aa]ddress already in use|couldn't bind|EADDRINUSE",
            "its port is taken by another program",
            command_line("doctor"),
        ),
        (
            r"failed to open GGUF file|[Nn]o such file or directory.*gguf|model file .*does not exist",
            "the model file is missing",
            f"{command_line('models', 'list')}   then {command_line('up', 'MODEL')}",
        ),
        (
            r"unknown model architecture|unknown pre-tokenizer",
            "this engine does not know the model's architecture",
            f"{command_line('engine', 'install')}   builds a newer one",
        ),
        (
            r"tensor '.*' (?:not found|has wrong shape)|missing tensor|wrong number of tensors|invalid magic"
            r"|not within the file bounds|corrupted or incomplete|failed to load model",
            "the model file cannot be loaded: damaged, incomplete, or not for this engine",
            command_line("models", "verify"),
        ),
        (
            r"unknown argument|invalid argument|error while handling argument|unrecognized arguments",
            "the engine does not take one of the plan's flags",
            command_line("engine", "list"),
        ),
        (
            r"ModuleNotFoundError|ImportError",
            "a Python package is missing",
            "./stack status   installs what is missing",
        ),
    )


def of_exit(last_exit: str | None) -> FailureCause | None:
    """What the exit alone proves, whatever the log says; both supervisors name signals as signal(7) does."""
    return _refused() if last_exit and re.search(r"\bSIGILL\b", last_exit) else None


def explain(lines: Sequence[str], last_exit: str | None, *, smaller: str) -> FailureCause | None:
    """The first cause that the log names, else what the exit itself says; None when neither is known.

    lines: of the last start, oldest first. smaller: the command that plans for less memory.
    """
    if last_exit and "out of memory" in last_exit and "kill -9" not in last_exit:
        return FailureCause("it ran out of memory and was killed", smaller)
    if (proven := of_exit(last_exit)) is not None:
        return proven
    for pattern, what, remedy in _causes():
        for line in lines:
            if match := re.search(pattern, line):
                return FailureCause(what.format_map(match.groupdict()), smaller if remedy is _SMALLER else remedy, line)
    if last_exit and "out of memory" in last_exit:
        return FailureCause("it was killed: most likely out of memory", smaller)
    return None
