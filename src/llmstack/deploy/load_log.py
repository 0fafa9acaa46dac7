"""What llama-server's log says of how it loaded a model: layers, buffers, devices, a capped context. Pure.

The lines are `load_tensors` and `llama_prepare_model_devices` of llama.cpp (src/llama-model.cpp, src/llama.cpp) and
`load_model` of its server (tools/server/server-context.cpp). "offloaded
N/M layers" alone proves nothing: a build with RPC counts them so when no device is there (llama_supports_gpu_offload),
and all weights are in CPU buffers. The buffers are what counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llmstack.engine.find import Engine

# From this build on the library's INFO, and so all of these lines, is the program's TRACE (common/log.cpp; issue 23613
# shows it for 9284). Before, level 4 was debug, which logs prompts, and the library's INFO was always written.
TRACE_BUILD = 9284
_YOUNG_FLAG = "--load-mode"  # younger than that (llama.cpp pull 20834, about b10100), for a build that tells no number
TRACE = 4

_LOADING = re.compile(r"load_model: loading model\b")
_LAYERS = re.compile(r"\boffloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"(\S+) model buffer size\s*=\s*([\d.]+) MiB")
_DEVICE = re.compile(r"\busing device (\S+) \(")
_CAPPED = re.compile(r"exceeds the training context of the model \((\d+)\)")
# Names of ggml's buffers in host memory: CPU, CPU_Mapped, CPU_REPACK, AMX …, and each backend's pinned one (CUDA_Host).
HOST_BUFFER = re.compile(r"^(?:CPU|AMX|BLAS|KLEIDIAI|none)|_Host$")


@dataclass(frozen=True, slots=True)
class LoadLog:
    """layers: offloaded, of how many; None where the log has no such line. buffers_mib: of weights, by device, host
    memory left out. devices: that it uses, by the engine's names. trained_ctx: tokens that it capped a slot at.

    loads: the log holds the beginning of a load. buffers: it lists buffers of weights, in whatever memory.
    """

    layers: tuple[int, int] | None = None
    buffers_mib: dict[str, float] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    trained_ctx: int | None = None
    loads: bool = False
    buffers: bool = False


def read_load(lines: Iterable[str]) -> LoadLog:
    """Of the last load in these lines, oldest first: the service may have started more than once."""
    run: list[str] = []
    loads = False
    for line in lines:
        if _LOADING.search(line):
            run, loads = [], True
        run.append(line)
    layers: tuple[int, int] | None = None
    buffers: dict[str, float] = {}
    devices: list[str] = []
    trained: int | None = None
    any_buffer = False
    for line in run:
        if layers is None and (match := _LAYERS.search(line)):  # a draft model is loaded after the large one
            layers = int(match[1]), int(match[2])
        elif match := _BUFFER.search(line):
            any_buffer = True
            if not HOST_BUFFER.search(match[1]):
                buffers[match[1]] = round(buffers.get(match[1], 0.0) + float(match[2]), 2)
        elif match := _DEVICE.search(line):
            devices.append(match[1])
        elif match := _CAPPED.search(line):
            trained = int(match[1])
    in_use = {name: mib for name, mib in buffers.items() if mib > 0}
    return LoadLog(layers, in_use, tuple(dict.fromkeys(devices)), trained, loads, any_buffer)


def lists_buffers(argv: Sequence[str]) -> bool:
    """Whether an engine of this command line logs the buffers that it loads."""
    level = value_of(argv, "-lv")
    return level is not None and level.isdigit() and int(level) >= TRACE


def value_of(argv: Sequence[str], flag: str) -> str | None:
    return argv[argv.index(flag) + 1] if flag in argv[:-1] else None


def verbosity(engine: Engine, plan_argv: Sequence[str]) -> tuple[str, ...]:
    """So much of the log that it says which device holds what: without it nobody can see a card that computes nothing.

    A plan without a device needs no such log, and who pins -lv has it.
    """
    on_device = value_of(plan_argv, "-ngl") not in (None, "0") and value_of(plan_argv, "-dev") != "none"
    if not on_device or "-lv" in plan_argv:
        return ()
    flags = engine.flags
    is_new = engine.build >= TRACE_BUILD if engine.build is not None else flags is not None and _YOUNG_FLAG in flags
    return ("-lv", str(TRACE)) if is_new and (flags is None or "-lv" in flags) else ()
