"""`engine install` from a host that answers like GitHub: real archives of the real engine, and what goes wrong."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmstack.engine.find import EngineOrigin, find, list_engines
from llmstack.errors import StackError
from llmstack.paths import Home
from llmstack.release import api
from llmstack.release.choose import Host, NvidiaDriver
from llmstack.release.install import LocalArchive, install_archive, install_release
from support.release_host import ReleaseHost, archive_of, archive_with, release_host
from support.stack import Stack

TAG = "b11434"
CPU = f"llama-{TAG}-bin-ubuntu-x64.tar.gz"
CUDA = f"llama-{TAG}-bin-ubuntu-cuda-13.4-x64.tar.gz"
CUDART = f"cudart-llama-{TAG}-bin-ubuntu-cuda-13.4-x64.tar.gz"
NIGHTLY = {"nightly-tag.txt": f"{TAG}\n".encode()}
PLAIN = Host("linux", "x86_64", (2, 39))
CARD = Host("linux", "x86_64", (2, 39), NvidiaDriver(580, (13, 0), (("NVIDIA GeForce RTX 3060", (8, 6)),)), True)
SEES_A_CARD = b"""#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
case $1 in
--list-devices) echo 'Available devices:'; echo '  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11890 MiB free)'; exit;;
esac
exec "$here/llama-server.real" "$@"
"""


@pytest.fixture(scope="module")
def archive(built_engine: Path) -> bytes:
    return archive_of(built_engine, TAG)


@pytest.fixture(scope="module")
def cuda_archive(built_engine: Path) -> bytes:
    real = (built_engine / "llama-server").read_bytes()
    more = {"llama-server": SEES_A_CARD, "llama-server.real": real, "libggml-cuda.so": b""}
    return archive_of(built_engine, TAG, **more)


@pytest.fixture
def host(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseHost]:
    with release_host(releases={TAG: {CPU: archive}, "v1.0.0": NIGHTLY}, stable="v1.0.0") as served:
        monkeypatch.setenv(api.VARIABLE, served.url)
        yield served


@pytest.fixture
def stack(stack_home: Stack, host: ReleaseHost) -> Stack:
    """A home whose commands ask our host."""
    return replace(stack_home, variables=((api.VARIABLE, host.url),))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(*(tmp_path / "home" / name for name in ("config", "state", "data", "cache"))).make()


def left(home: Home) -> list[str]:
    """What is in the folder of engines, but for its lock and the record of sums."""
    folder = home.data / "engines"
    return sorted(path.name for path in folder.glob("*") if path.name not in (".lock", "digests.json"))


def refused(home: Home, act: Callable[[], Any]) -> StackError:
    """The error, after which nothing is installed and the engine in use is the one before."""
    before, have = find(home).name, left(home)
    with pytest.raises(StackError) as caught:
        act()
    assert left(home) == have
    assert find(home).name == before
    return caught.value


def test_a_fresh_home_has_a_working_engine_after_one_command(host: ReleaseHost, stack: Stack) -> None:
    ran = stack.run("engine", "install", "--cpu", "--json")
    assert ran.status == 0, ran.out + ran.err
    assert ran.json["engine"]["name"] == f"{TAG}-official-cpu" and ran.json["engine"]["origin"] == "release"
    listed = stack.run("engine", "list", "--no-devices", "--json").json["engines"]
    assert [engine["name"] for engine in listed if engine["in_use"]] == [f"{TAG}-official-cpu"]
    stack.up()
    again = stack.run("engine", "install", "--cpu")
    assert again.status == 0 and "already here" in again.out
    checked = stack.run("engine", "list", "--no-devices", "--check")
    assert f"stable release is {TAG}: nothing newer than here" in checked.out


def test_a_list_never_asks_by_itself(host: ReleaseHost, stack: Stack) -> None:
    assert stack.run("engine", "list", "--no-devices").status == 0
    assert host.asked == []


def test_a_cuda_release_brings_its_libraries_and_must_see_the_card(
    host: ReleaseHost, home: Home, cuda_archive: bytes
) -> None:
    host.releases[TAG] |= {CUDA: cuda_archive, CUDART: archive_with(("cudart/libcudart.so.13", b"library"))}
    done = install_release(home, CARD)
    assert done.engine.name == f"{TAG}-official-cuda13.4" and done.engine.origin is EngineOrigin.RELEASE
    assert done.engine.folder is not None and (done.engine.folder / "libcudart.so.13").read_bytes() == b"library"
    assert {"cpu", "cuda", "rpc"} <= set(done.engine.backends)


def test_a_cuda_build_that_lists_no_card_is_not_taken(
    host: ReleaseHost, home: Home, archive: bytes, built_engine: Path
) -> None:
    blind = archive_of(built_engine, TAG, **{"libggml-cuda.so": b""})
    host.releases[TAG] |= {CUDA: blind, CUDART: archive_with(("cudart/libcudart.so.13", b"library"))}
    error = refused(home, lambda: install_release(home, CARD))
    assert "sees no card" in error.what and "driver" in error.why and "doctor" in error.next


def test_a_wrong_digest_installs_nothing(host: ReleaseHost, home: Home) -> None:
    host.digests[CPU] = "sha256:" + "1" * 64
    error = refused(home, lambda: install_release(home, PLAIN))
    assert "is not what it should be" in error.what


def test_a_release_that_states_no_digest_is_not_taken(host: ReleaseHost, home: Home) -> None:
    host.digests[CPU] = ""
    error = refused(home, lambda: install_release(home, PLAIN))
    assert "states no SHA-256" in error.what and "--archive" in error.next


def test_other_bytes_under_a_name_that_was_installed_before_are_refused(
    host: ReleaseHost, home: Home, built_engine: Path
) -> None:
    first = install_release(home, PLAIN).engine
    from llmstack.engine.choose import use
    from llmstack.engine.install import remove

    use(home, "embedded")
    remove(home, first.name)
    host.releases[TAG][CPU] = archive_of(built_engine, TAG, README=b"other bytes")
    error = refused(home, lambda: install_release(home, PLAIN))
    assert "is not the file that it was" in error.what and "digests.json" in error.next


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive_with(("llama-b11434/x", random.Random(1).randbytes(90_000)))[:40_000], "cannot be unpacked"),
        (archive_with(("../escaped", b"x")), "leads out of its folder"),
        (archive_with(("llama-b11434/readme", b"x")), "no llama-server"),
        (archive_with(("llama-b11434/llama-server", b"#!/bin/sh\nexit 1\n")), "cannot be used"),
        (b"<html>a login page</html>", "cannot be unpacked"),
    ],
)  # fmt: skip
def test_an_archive_that_is_none_of_a_release_installs_nothing(
    host: ReleaseHost, home: Home, tmp_path: Path, data: bytes, words: str
) -> None:
    host.releases[TAG][CPU] = data
    error = refused(home, lambda: install_release(home, PLAIN))
    assert words in error.what + error.why
    assert not list(tmp_path.rglob("escaped"))


def test_a_build_that_calls_itself_another_is_not_taken(host: ReleaseHost, home: Home, built_engine: Path) -> None:
    host.releases["b12999"] = {"llama-b12999-bin-ubuntu-x64.tar.gz": archive_of(built_engine, "b12999")}
    error = refused(home, lambda: install_release(home, PLAIN, tag="b12999"))
    assert "calls itself 11434" in error.what


def test_githubs_rate_limit_is_told_from_no_network_and_from_a_wall(
    host: ReleaseHost, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.rate_limited = True
    limited = refused(home, lambda: install_release(home, PLAIN))
    assert "ask no more for now" in limited.what and "again from" in limited.why and "GITHUB_TOKEN" in limited.next
    host.rate_limited, host.wall = False, b"<html>sign in</html>"
    assert "something else than the releases" in refused(home, lambda: install_release(home, PLAIN)).what
    monkeypatch.setenv(api.VARIABLE, "http://127.0.0.1:1")
    assert "no network" in refused(home, lambda: install_release(home, PLAIN)).what
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    behind = refused(home, lambda: install_release(home, PLAIN))
    assert "through 127.0.0.1:1" in behind.what and "secret" not in behind.what + behind.why + behind.next


def test_the_token_goes_to_the_api_and_nowhere_else(
    host: ReleaseHost, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    install_release(home, PLAIN)
    with_token = [path for path, headers in host.asked if "ghp_secret" in str(headers)]
    assert with_token and not [path for path in with_token if path.endswith(".tar.gz")]


def test_latest_without_binaries_names_the_build_and_one_that_names_nothing_is_refused(
    host: ReleaseHost, home: Home
) -> None:
    host.releases["v1.0.0"] = {"notes.txt": b"no build here"}
    assert "nightly-tag.txt" in refused(home, lambda: install_release(home, PLAIN)).what
    host.releases["v1.0.0"] = {"nightly-tag.txt": b"../../etc"}
    assert "names no build" in refused(home, lambda: install_release(home, PLAIN)).what
    host.releases["v1.0.0"] = NIGHTLY
    assert "no release b99999" in refused(home, lambda: install_release(home, PLAIN, tag="b99999")).what


def test_a_nightly_is_the_newest_that_has_files(host: ReleaseHost, home: Home) -> None:
    host.releases["b12999"] = {}
    assert install_release(home, PLAIN, tag="nightly").engine.build == 11434


def test_a_cut_download_goes_on_where_it_stopped(host: ReleaseHost, home: Home) -> None:
    host.cut_after = 300_000
    install_release(home, PLAIN)
    ranges = [headers.get("Range") for path, headers in host.asked if path.endswith(".tar.gz")]
    assert ranges == [None, "bytes=300000-"]


def test_one_that_is_killed_in_the_middle_leaves_nothing_half_named(host: ReleaseHost, stack: Stack) -> None:
    code = (
        "import os, sys\nfrom llmstack.release import install\n"
        "install.smoke_test = lambda *_: os._exit(9)\n"
        "from llmstack.__main__ import main\nsys.exit(main())"
    )
    argv = [sys.executable, "-c", code, "engine", "install", "--cpu"]
    killed = subprocess.run(argv, env=stack.environment, capture_output=True, timeout=120, check=False)
    assert killed.returncode == 9, killed.stderr
    folder = stack.root / "data" / "engines"
    assert not list(folder.glob("*/engine.json"))
    assert stack.run("engine", "install", "--cpu").status == 0
    assert [path.parent.name for path in folder.glob("*/engine.json")] == [f"{TAG}-official-cpu"]
    assert not list(folder.glob(".*.new"))


def test_downloaded_archives_are_installed_without_a_network(
    home: Home, tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(api.VARIABLE, "http://127.0.0.1:1")
    file = tmp_path / CPU
    file.write_bytes(archive)
    right = hashlib.sha256(archive).hexdigest()
    error = refused(home, lambda: install_archive(home, [LocalArchive(file, "0" * 64)]))
    assert "is not what it should be" in error.what
    done = install_archive(home, [LocalArchive(file, right.upper())])
    assert done.engine.name == f"{TAG}-official-cpu" and find(home).name == done.engine.name
    assert file.exists()  # it is the user's
    assert [engine.name for engine in list_engines(home) if engine.origin is EngineOrigin.RELEASE] == [done.engine.name]


def test_a_downloaded_cuda_archive_wants_its_libraries_too(home: Home, tmp_path: Path, cuda_archive: bytes) -> None:
    file, libraries = tmp_path / CUDA, tmp_path / CUDART
    file.write_bytes(cuda_archive)
    libraries.write_bytes(archive_with(("cudart/libcudart.so.13", b"library")))
    one = LocalArchive(file, hashlib.sha256(file.read_bytes()).hexdigest())
    other = LocalArchive(libraries, hashlib.sha256(libraries.read_bytes()).hexdigest())
    assert "CUDA libraries are missing" in refused(home, lambda: install_archive(home, [one])).what
    engine = install_archive(home, [other, one]).engine
    assert engine.folder is not None and (engine.folder / "libcudart.so.13").exists()
