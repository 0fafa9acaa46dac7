"""The variables of a user's shell that decide what an engine computes on: the same for its list, its plan and its unit.

A service starts with an environment of its own. Were these not passed on, it would see other devices than the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

# CUDA: programming guide, environment variables. ROCm: HIP environment variables. SYCL: oneAPI DPC++ environment
# variables. Vulkan: loader interface; GGML_*: getenv() in llama.cpp's ggml folders.
DEVICE_VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_SCALE_LAUNCH_QUEUES",
    "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "LD_LIBRARY_PATH",
    "MESA_VK_DEVICE_SELECT",
    "ONEAPI_DEVICE_SELECTOR",
    "ROCR_VISIBLE_DEVICES",
    "SYCL_DEVICE_FILTER",
    "SYCL_UR_USE_LEVEL_ZERO",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_SELECT",
    "ZE_AFFINITY_MASK",
)
PREFIX = "GGML_"
# NVML counts cards by PCI bus, CUDA the fastest first unless told otherwise: shares of -ts would go to the wrong card.
SET = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def device_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What an engine is started with, of these. An empty value counts: an empty list of devices hides them all."""
    return SET | chosen_variables(environ)


def chosen_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What the user's shell says of it."""
    names = [name for name in environ if name in DEVICE_VARIABLES or name.startswith(PREFIX)]
    return {name: environ[name] for name in sorted(names)}
