"""Which archive of a release a machine gets, over a table of machines; and the sentence where it gets none."""

from __future__ import annotations

import pytest

from llmstack.errors import MissingPart
from llmstack.release.assets import Asset, Release, of_file
from llmstack.release.choose import Host, NvidiaDriver, backend_for, choose

TAG = "b12110"
KINDS = (
    "ubuntu-x64", "ubuntu-arm64", "ubuntu-vulkan-x64", "ubuntu-vulkan-arm64", "ubuntu-cuda-12.8-x64",
    "ubuntu-cuda-13.4-x64", "ubuntu-cuda-13.4-arm64", "ubuntu-rocm-10.0-x64", "ubuntu-openvino-2026.4-x64",
    "ubuntu-sycl-fp32-x64", "ubuntu-sycl-fp16-x64", "macos-arm64",
)  # fmt: skip
NAMES = (
    *(f"llama-{TAG}-bin-{kind}.tar.gz" for kind in KINDS),
    *(f"cudart-llama-{TAG}-bin-{kind}.tar.gz" for kind in KINDS if "cuda" in kind),
    f"llama-{TAG}-bin-win-cuda-13.4-x64.zip",
    "cudart-llama-bin-win-cuda-13.4-x64.zip",
    f"llama-{TAG}-ui.tar.gz",
)
RELEASE = Release(TAG, tuple(Asset(name, f"https://example/{name}", 1, "0" * 64) for name in NAMES))
NEW, OLD = (2, 39), (2, 36)

GPU = {
    "3060": ("NVIDIA GeForce RTX 3060", (8, 6)), "4090": ("NVIDIA GeForce RTX 4090", (8, 9)),
    "5090": ("NVIDIA GeForce RTX 5090", (12, 0)), "1080": ("NVIDIA GeForce GTX 1080", (6, 1)),
    "v100": ("Tesla V100", (7, 0)), "t4": ("Tesla T4", (7, 5)), "h100": ("NVIDIA H100", (9, 0)),
    "gb10": ("NVIDIA GB10", (12, 1)),
}  # fmt: skip


def nvidia(driver: int, cuda: tuple[int, int], *cards: str, glibc: tuple[int, int] = NEW, cpu: str = "x86_64") -> Host:
    return Host("linux", cpu, glibc, NvidiaDriver(driver, cuda, tuple(GPU[card] for card in cards)), True)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (nvidia(580, (13, 0), "3060"), "ubuntu-cuda-13.4-x64"),
        (nvidia(575, (12, 9), "3060"), "ubuntu-cuda-12.8-x64"),
        (nvidia(535, (12, 2), "4090"), "ubuntu-cuda-12.8-x64"),  # finished code: minor version compatibility will do
        (nvidia(590, (13, 1), "5090", "3060"), "ubuntu-cuda-13.4-x64"),
        (nvidia(580, (13, 0), "1080"), "ubuntu-cuda-12.8-x64"),  # CUDA 13 dropped Pascal
        (nvidia(580, (13, 0), "v100"), "ubuntu-cuda-12.8-x64"),
        (nvidia(580, (13, 0), "3060", "1080"), "ubuntu-cuda-12.8-x64"),  # both cards must run
        (nvidia(580, (13, 0), "t4"), "ubuntu-cuda-12.8-x64"),  # PTX: the driver must report 13.4 for the newer one
        (nvidia(610, (13, 4), "t4"), "ubuntu-cuda-13.4-x64"),
        (nvidia(570, (12, 8), "h100"), "ubuntu-cuda-12.8-x64"),
        (nvidia(610, (13, 4), "gb10", cpu="aarch64"), "ubuntu-cuda-13.4-arm64"),
    ],
)
def test_a_machine_with_nvidia_cards_gets_the_newest_cuda_that_driver_and_cards_take(host: Host, kind: str) -> None:
    archive = choose(RELEASE, host, backend_for(host))
    assert archive.asset.name == f"llama-{TAG}-bin-{kind}.tar.gz"
    assert archive.companion is not None
    assert archive.companion.name == f"cudart-llama-{TAG}-bin-{kind}.tar.gz"


@pytest.mark.parametrize(
    ("host", "backend", "kind"),
    [
        (Host("linux", "x86_64", OLD), None, "ubuntu-x64"),
        (Host("linux", "x86_64", OLD, has_gpu=True), None, "ubuntu-vulkan-x64"),
        (Host("linux", "x86_64", NEW, has_gpu=True), "rocm", "ubuntu-rocm-10.0-x64"),
        (Host("linux", "x86_64", NEW, has_gpu=True), "sycl", "ubuntu-sycl-fp16-x64"),
        (Host("linux", "aarch64", NEW), None, "ubuntu-arm64"),
        (Host("darwin", "arm64", None), None, "macos-arm64"),
        (nvidia(580, (13, 0), "3060", glibc=OLD), "vulkan", "ubuntu-vulkan-x64"),
    ],
)
def test_other_machines_get_the_archive_of_their_kind(host: Host, backend: str | None, kind: str) -> None:
    archive = choose(RELEASE, host, backend or backend_for(host))
    assert archive.asset.name == f"llama-{TAG}-bin-{kind}.tar.gz" and archive.companion is None


@pytest.mark.parametrize(
    ("host", "backend", "what", "next_"),
    [
        (nvidia(580, (13, 0), "3060", glibc=OLD), "cuda", "needs glibc 2.39, and this machine has glibc 2.36", "conda"),
        (nvidia(580, (13, 0), "3060", glibc=OLD), "cuda", "2.39", "--vulkan"),
        (Host("linux", "x86_64", (2, 31)), "cpu", "needs glibc 2.35", "--build"),
        (Host("linux", "x86_64", None), "cpu", "another C library", "--build"),
        (Host("linux", "aarch64", OLD), "cpu", "needs glibc 2.39", "--build"),
        (Host("linux", "riscv64", NEW), "cpu", "no CPU build for linux on riscv64", "--build"),
        (Host("linux", "aarch64", NEW, has_gpu=True), "rocm", "no ROCm build", "--build"),
        (nvidia(470, (11, 4), "3060"), "cuda", "no CUDA build of this release runs with this driver", "--vulkan"),
        (nvidia(570, (12, 6), "t4"), "cuda", "no CUDA build of this release", "driver"),
        (nvidia(580, (13, 0), "1080", cpu="aarch64"), "cuda", "no CUDA build of this release", "--vulkan"),
        (Host("linux", "x86_64", NEW), "cuda", "no NVIDIA driver answers", "--cpu"),
    ],
)
def test_a_machine_that_none_suits_is_told_why_and_what_works(host: Host, backend: str, what: str, next_: str) -> None:
    with pytest.raises(MissingPart) as caught:
        choose(RELEASE, host, backend)
    assert what in caught.value.what and caught.value.why
    assert next_ in caught.value.next


def test_a_driver_that_is_too_old_is_named_with_each_version_it_is_too_old_for() -> None:
    with pytest.raises(MissingPart) as caught:
        choose(RELEASE, nvidia(570, (12, 6), "t4"), "cuda")
    assert "CUDA 13.4: it needs driver 580, and 570 is here" in caught.value.why
    assert "must report CUDA 12.8 for that and reports 12.6" in caught.value.why


def test_a_release_without_the_cuda_libraries_is_refused() -> None:
    bare = Release(TAG, tuple(asset for asset in RELEASE.assets if not asset.name.startswith("cudart")))
    with pytest.raises(MissingPart, match="lacks the CUDA libraries"):
        choose(bare, nvidia(580, (13, 0), "3060"), "cuda")


def test_a_release_that_lacks_the_archive_is_refused_by_its_name() -> None:
    with pytest.raises(MissingPart, match="b12110 has no CPU archive"):
        choose(Release(TAG, ()), Host("linux", "x86_64", NEW), "cpu")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llama-b12345-bin-ubuntu-x64.tar.gz", ("b12345", "cpu", ())),
        ("llama-b12345-bin-ubuntu-cuda-14.0-x64.tar.gz", ("b12345", "cuda", (14, 0))),
        ("llama-b12345-bin-win-cpu-x64.zip", None),
        ("llama-b12345-bin-ubuntu-cuda-13.4-x64.tar.gz.part", None),
        ("cudart-llama-b12345-bin-ubuntu-cuda-13.4-x64.tar.gz", None),
    ],
)
def test_a_downloaded_archive_is_known_by_its_name(name: str, found: object) -> None:
    assert of_file(name) == found
