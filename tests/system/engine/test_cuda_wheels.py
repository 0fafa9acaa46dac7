"""NVIDIA's wheels at work: real ones from PyPI configure the pinned llama.cpp and compile one of its CUDA kernels."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from llmstack.engine.cuda_toolkit import CudaPlan, compile_problem
from llmstack.engine.cuda_wheels import CudaWheels
from llmstack.engine.pip_build import PipBuild, build_environment
from llmstack.engine.source_package import PACKAGE, BuildSpec
from llmstack.engine.toolchain import Toolchain

pytestmark = pytest.mark.timeout(1800)
KERNEL = "ggml/src/ggml-cuda/CMakeFiles/ggml-cuda.dir/arange.cu.o"


def run(argv: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(small CXX)
find_package(CUDAToolkit REQUIRED)
enable_language(CUDA)
add_library(kernels SHARED kernels.cu)
target_link_libraries(kernels PRIVATE CUDA::cudart CUDA::cublas)
add_executable(program program.cpp)
target_link_libraries(program kernels)
"""
KERNELS = """
#include <cublas_v2.h>
#include <cstdio>
__global__ void set(int *at) { *at = 1; }
extern "C" int go() {
    int cards = 0;
    cublasHandle_t handle;
    if (cudaGetDeviceCount(&cards) == cudaSuccess && cards > 0) set<<<1, 1>>>(nullptr);
    std::printf("cards %d, cublas %s\\n", cards, cublasGetStatusString(cublasCreate(&handle)));
    return 0;
}
"""


def test_a_program_is_linked_and_finds_the_libraries_that_lie_beside_it(
    cuda_build: tuple[PipBuild, CudaWheels], tmp_path: Path
) -> None:
    """As libggml-cuda.so and llama-server are: cuBLAS in a shared library of the build, with the package's RPATH."""
    build, wheels = cuda_build
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "kernels.cu").write_text(KERNELS)
    (tmp_path / "program.cpp").write_text('extern "C" int go(); int main() { return go(); }')
    environment = {key: value for key, value in build.environment.items() if key != "LD_LIBRARY_PATH"}
    rpath = ["-DCMAKE_INSTALL_RPATH=$ORIGIN", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON"]
    arguments = [*wheels.cmake_args(None), "-DCMAKE_CUDA_ARCHITECTURES=86-real", *rpath, "-Wno-dev"]
    run(["cmake", str(tmp_path), *arguments], environment, tmp_path)
    run(["ninja"], environment, tmp_path)
    done = subprocess.run([tmp_path / "program"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "libcublas.so" in done.stderr  # before they are there
    wheels.put_beside(tmp_path)
    loaded = run(["ldd", str(tmp_path / "program")], environment, tmp_path)
    for library in wheels.libraries():
        assert f"{library.name} => {tmp_path}/{library.name}" in loaded
    assert "cards " in run([str(tmp_path / "program")], environment, tmp_path)


def test_llama_cpp_is_configured_and_a_kernel_compiled_without_a_cuda_toolkit(
    cuda_build: tuple[PipBuild, CudaWheels], tmp_path: Path
) -> None:
    build, wheels = cuda_build
    assert compile_problem(str(wheels.nvcc)) is None  # cuBLAS is there, and this C++ compiler will do
    environment = {**build_environment(tmp_path, Toolchain("g++", 1, CudaPlan("", ("86-real",))))}
    environment |= {"PATH": build.environment["PATH"], "TMPDIR": str(tmp_path)}
    requirement = tmp_path / "requirement.txt"
    requirement.write_text(build.spec.package.requirement)
    run([build.python, "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-binary", PACKAGE,
         "--require-hashes", "-r", str(requirement), "-d", str(tmp_path)], environment, tmp_path)  # fmt: skip
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    [llama_cpp] = tmp_path.glob("*/llama.cpp")
    folder = tmp_path / "build"
    folder.mkdir()
    arguments = [*BuildSpec("cuda").cmake_args(("86-real",)), *wheels.cmake_args(None)]
    said = run(["cmake", str(llama_cpp), *arguments], environment, folder)
    assert "Using CMAKE_CUDA_ARCHITECTURES=86-real" in said
    run(["ninja", KERNEL], environment, folder)
    compiled = (folder / KERNEL).read_bytes()
    assert compiled.startswith(b"\x7fELF") and b".nv_fatbin" in compiled
    rules = (folder / "build.ninja").read_text()
    [defined] = {line for line in rules.split(f"build {KERNEL}", 1)[1].splitlines()[:6] if "DEFINES" in line}
    assert "-DGGML_CUDA_USE_GRAPHS" in defined and "-DGGML_CUDA_NO_VMM" in defined
    linking = r"^build bin/libggml-cuda\.so\.\d[^\n]*_SHARED_LIBRARY_LINKER.*?LINK_LIBRARIES = (.*?)$"
    [linked] = re.findall(linking, rules, re.M | re.S)
    assert f"{wheels.root}/lib/libcublas.so" in linked and "libcuda.so" not in linked
