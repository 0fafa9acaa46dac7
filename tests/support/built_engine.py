"""A real llama.cpp build for the tests, made once by `engine install` itself and then reused.

`LLMSTACK_TEST_ENGINE=FOLDER` names a bin folder to use instead (it must hold llama-server, llama-fit-params
and ggml-rpc-server of the pinned build).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from llmstack.engine.cuda_toolkit import CudaPlan
from llmstack.engine.cuda_wheels import CudaWheels
from llmstack.engine.install import BuildSpec, install
from llmstack.engine.pip_build import BuildLog, PipBuild, quiet
from llmstack.engine.toolchain import Toolchain
from llmstack.paths import Home
from support.programs import cache, debian_packages

PROGRAMS = ("llama-server", "llama-fit-params", "llama-bench", "ggml-rpc-server")


def build_home(spec: BuildSpec) -> Home:
    """The folder that keeps this build between test runs: version and flags are its name."""
    root = cache() / "engine" / spec.name
    return Home(root / "config", root / "state", root / "data", root / "cache")


VULKAN = BuildSpec("vulkan")
LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
"""Mesa's Vulkan on the processor: a real device of 2 GiB on a machine without a card."""


def has_vulkan_engine() -> bool:
    return (build_home(VULKAN).data / "engines" / VULKAN.name / "engine.json").exists()


@pytest.fixture(scope="session")
def vulkan_engine() -> Path:
    """The bin folder of a Vulkan build, and Mesa's device for it. The first run builds it (20 minutes on 2 cores)."""
    packages = ("mesa-vulkan-drivers", "libvulkan-dev", "glslc", "spirv-headers")
    debian_packages((LAVAPIPE, "glslc", "/usr/include/vulkan/vulkan.hpp", "/usr/share/cmake/SPIRV-Headers"), packages)
    home = build_home(VULKAN)
    home.make()
    with (home.cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = install(home, VULKAN).engine.folder
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def cuda_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipBuild, CudaWheels]:
    """Build tools and NVIDIA's wheels, kept between runs. The first run fetches them (570 MB, 1 GB on the disk)."""
    tools = cache() / "engine" / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    work = tmp_path_factory.mktemp("cuda")
    chain = Toolchain("", 1, CudaPlan("", ("86-real",)))
    with (tools.parent / "tools.lock").open("w") as lock, (work / "log").open("w") as stream:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (work / "tmp").mkdir()
        build = PipBuild(work, tools, BuildSpec("cuda"), chain, BuildLog(stream, work / "log", quiet))
        build.prepare()
        return build, build.cuda_wheels("the tests want them")


@pytest.fixture(scope="session")
def built_engine() -> Path:
    """The bin folder of a CPU and RPC build. The first run on a machine builds it (10 minutes on 2 cores)."""
    given = os.environ.get("LLMSTACK_TEST_ENGINE")
    if given:
        folder = Path(given)
    else:
        spec = BuildSpec("cpu", rpc=True)
        home = build_home(spec)
        home.make()
        with (home.cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            installed = install(home, spec)
        assert installed.engine.folder is not None
        folder = installed.engine.folder
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    assert not missing, f"{folder} lacks {missing}"
    return folder
