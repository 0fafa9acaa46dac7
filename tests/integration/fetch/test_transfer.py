"""One file over HTTP: resumed, checked whole, never torn under its final name."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from llmstack.errors import MissingPart, NotSo
from llmstack.fetch import transfer
from llmstack.fetch.progress import Stage, TransferProgress
from llmstack.fetch.pull import check_header
from llmstack.fetch.transfer import Remote, fetch
from llmstack.gguf import GgufError
from support.hub import HubServer
from support.model_bytes import model_bytes

NAME = "Tiny-Q4_K_M.gguf"


def remote(hub: HubServer, name: str = NAME, **changes: object) -> Remote:
    known = {"size": len(hub.files[name]), "sha256": hub.digest(name), **changes}
    return Remote(f"{hub.url}/plain/{name}", name, **known)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def no_sleep(seconds: float) -> None:
    assert seconds >= 0


def test_a_file_arrives_whole_and_leaves_nothing_else_behind(hub: HubServer, folder: Path) -> None:
    done = fetch(remote(hub), folder / NAME)
    assert done.path.read_bytes() == hub.files[NAME]
    assert done.sha256 == hub.digest(NAME)
    assert names(folder) == [NAME]


@pytest.mark.parametrize("seed", range(50))
def test_a_connection_cut_at_random_points_is_resumed_to_the_same_bytes(
    hub: HubServer, folder: Path, seed: int
) -> None:
    chance = random.Random(seed)
    size = len(hub.files[NAME])
    cuts = [chance.randrange(0, size // 2) for _ in range(chance.randrange(1, 6))]
    hub.faults.cut = lambda number: cuts[number] if number < len(cuts) else None
    seen: list[bool] = []
    target = folder / NAME

    def watch(progress: TransferProgress) -> None:
        seen.append(target.exists())

    done = fetch(remote(hub), target, on_progress=watch, sleep=no_sleep)
    assert done.path.read_bytes() == hub.files[NAME]
    assert not any(seen[:-1]), "the final name appeared before the file was whole"
    assert names(folder) == [NAME]
    ranges = [headers.get("range") for _, _, headers in hub.requests]
    assert any(ranges[1:]) or sum(cuts) == 0


def test_a_wrong_hash_is_quarantined_and_never_gets_the_name(hub: HubServer, folder: Path) -> None:
    with pytest.raises(NotSo, match="is not what it should be") as caught:
        fetch(remote(hub, sha256="0" * 64), folder / NAME)
    assert "quarantined" in caught.value.why
    assert names(folder) == [f"{NAME}.quarantined"]


def test_a_pull_after_a_quarantine_starts_from_nothing(hub: HubServer, folder: Path) -> None:
    with pytest.raises(NotSo):
        fetch(remote(hub, sha256="0" * 64), folder / NAME)
    fetch(remote(hub), folder / NAME)
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def half(hub: HubServer, folder: Path, count: int = 100_000) -> None:
    """Leaves a part of `count` bytes behind, as a killed pull does."""
    hub.faults.cut = lambda number: count if number == 0 else 0
    with pytest.raises(MissingPart, match="broke off"):
        fetch(remote(hub), folder / NAME, sleep=no_sleep)
    hub.faults.cut = lambda number: None
    hub.requests.clear()
    assert (folder / f".{NAME}.part").stat().st_size == count


def test_a_later_pull_asks_only_for_what_is_missing(hub: HubServer, folder: Path) -> None:
    half(hub, folder)
    fetch(remote(hub), folder / NAME)
    assert [headers.get("range") for _, _, headers in hub.requests] == ["bytes=100000-"]
    assert (folder / NAME).read_bytes() == hub.files[NAME]


@pytest.mark.parametrize("fault", ["ignore_range", "refuse_range", "wrong_range"])
def test_a_server_that_mishandles_a_range_causes_a_clean_restart(hub: HubServer, folder: Path, fault: str) -> None:
    half(hub, folder)
    setattr(hub.faults, fault, True)
    if fault == "wrong_range":
        hub.faults.cut = lambda number: None
    fetch(remote(hub), folder / NAME, sleep=no_sleep)
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def test_a_part_of_another_version_is_not_continued(hub: HubServer, folder: Path) -> None:
    half(hub, folder)
    hub.files[NAME] = model_bytes(300_000, 99)
    fetch(remote(hub), folder / NAME)
    assert (folder / NAME).read_bytes() == hub.files[NAME]
    assert hub.requests[0][2].get("range") is None


def test_a_part_with_damaged_bytes_is_caught_at_the_end(hub: HubServer, folder: Path) -> None:
    half(hub, folder)
    with (folder / f".{NAME}.part").open("r+b") as stream:
        stream.seek(50_000)
        stream.write(b"damage")
    with pytest.raises(NotSo, match="is not what it should be"):
        fetch(remote(hub), folder / NAME)
    assert not (folder / NAME).exists()


def test_a_part_longer_than_the_file_is_cut_to_its_size(hub: HubServer, folder: Path) -> None:
    half(hub, folder)
    with (folder / f".{NAME}.part").open("wb") as stream:
        stream.write(hub.files[NAME] + b"more")
    fetch(remote(hub), folder / NAME)
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def test_busy_answers_are_waited_out(hub: HubServer, folder: Path) -> None:
    hub.faults.status, hub.faults.status_times = 503, 3
    waits: list[float] = []
    fetch(remote(hub), folder / NAME, sleep=waits.append)
    assert waits == sorted(waits) and len(waits) == 3


def test_a_server_that_stays_down_ends_in_one_sentence(hub: HubServer, folder: Path) -> None:
    hub.faults.status = 500
    waits: list[float] = []
    with pytest.raises(MissingPart, match="broke off 4 times in a row"):
        fetch(remote(hub), folder / NAME, sleep=waits.append)
    assert sum(waits) < 10


def test_a_server_that_never_sends_the_range_it_is_asked_for_is_given_up(hub: HubServer, folder: Path) -> None:
    """Each time it begins anew it sends more than before: there is progress, and no end."""
    hub.faults.wrong_range = True
    hub.faults.cut = lambda number: 100_000
    with pytest.raises(NotSo, match="cannot be had from"):
        fetch(remote(hub), folder / NAME, sleep=no_sleep)
    assert len(hub.requests) < 10


def test_what_is_no_http_and_what_does_not_exist_is_not_asked_again_and_again(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(transfer.MISTAKES):
                connection, _address = listener.accept()
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        waits: list[float] = []
        place = f"http://127.0.0.1:{listener.getsockname()[1]}/a"
        with pytest.raises(NotSo, match="cannot be had from"):
            fetch(Remote(place, NAME), folder / NAME, sleep=waits.append)
        thread.join(10)
    assert sum(waits) < 5


@pytest.mark.parametrize(
    ("status", "words"), [(401, "needs permission"), (403, "needs permission"), (404, "is not at")]
)
def test_a_refusal_is_said_at_once(hub: HubServer, folder: Path, status: int, words: str) -> None:
    hub.faults.status = status
    with pytest.raises((MissingPart, NotSo), match=words):
        fetch(remote(hub), folder / NAME, sleep=no_sleep)
    assert len(hub.requests) == 1


def test_a_file_of_another_size_than_promised_is_refused(hub: HubServer, folder: Path) -> None:
    with pytest.raises(NotSo, match="were expected"):
        fetch(remote(hub, size=len(hub.files[NAME]) + 1), folder / NAME, sleep=no_sleep)
    assert not (folder / NAME).exists()


def test_more_bytes_than_promised_are_refused(hub: HubServer, folder: Path) -> None:
    hub.faults.no_length = True
    with pytest.raises(NotSo, match="more bytes"):
        fetch(remote(hub, size=100_000), folder / NAME, sleep=no_sleep)


def test_a_server_without_a_length_is_read_to_its_end(hub: HubServer, folder: Path) -> None:
    hub.faults.no_length = True
    fetch(remote(hub, size=0), folder / NAME)
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def test_a_disk_with_too_little_room_is_refused_before_the_first_byte(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = transfer.RESERVE + len(hub.files[NAME]) - 1
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": free})())
    with pytest.raises(MissingPart, match="more on this disk"):
        fetch(remote(hub), folder / NAME)
    assert hub.requests == []


def test_a_header_that_does_not_hold_keeps_the_file_from_its_name(hub: HubServer, folder: Path) -> None:
    hub.files[NAME] = b"GGUF" + bytes(200_000)
    with pytest.raises(GgufError):
        fetch(remote(hub), folder / NAME, check=check_header)
    assert names(folder) == [f"{NAME}.quarantined"]


def test_two_pulls_at_once_download_once(hub: HubServer, folder: Path) -> None:
    hub.faults.gate = threading.Event()
    stages: list[Stage] = []
    results: list[bool] = []

    def second() -> None:
        results.append(fetch(remote(hub), folder / NAME, on_progress=lambda p: stages.append(p.stage)).already)

    first = threading.Thread(target=lambda: results.append(fetch(remote(hub), folder / NAME).already))
    first.start()
    while not hub.requests:
        time.sleep(0.01)
    other = threading.Thread(target=second)
    other.start()
    while Stage.WAITING not in stages:
        time.sleep(0.01)
    hub.faults.gate.set()
    first.join(10)
    other.join(10)
    assert sorted(results) == [False, True]
    assert len(hub.requests) == 1
    assert (folder / NAME).read_bytes() == hub.files[NAME]


PULL = """
import sys
from pathlib import Path
from llmstack.errors import StackError
from llmstack.fetch.transfer import Remote, fetch
url, size, sha, target = sys.argv[1:5]
try:
    fetch(Remote(url, Path(target).name, size=int(size), sha256=sha), Path(target))
except StackError as error:
    print(error.what, "|", error.why, "|", error.next)
    sys.exit(error.exit_status)
"""


def test_a_killed_pull_leaves_no_final_name_and_is_resumed(hub: HubServer, folder: Path) -> None:
    hub.files[NAME] = model_bytes(3_000_000, 7)
    slow = threading.Event()
    original = hub.faults.cut

    def hold(number: int) -> int | None:
        if number == 0:
            return 1_500_000
        slow.wait(20)
        return None

    hub.faults.cut = hold
    known = remote(hub)
    argv = [sys.executable, "-c", PULL, known.url, str(known.size), known.sha256, str(folder / NAME)]
    process = subprocess.Popen(argv)
    part = folder / f".{NAME}.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    slow.set()
    hub.faults.cut = original
    hub.requests.clear()
    assert not (folder / NAME).exists()
    have = part.stat().st_size
    assert have >= 1_000_000
    fetch(known, folder / NAME)
    assert (folder / NAME).read_bytes() == hub.files[NAME]
    assert hub.requests[0][2]["range"] == f"bytes={have}-"


def test_a_disk_that_fills_up_keeps_the_part_and_says_what_is_missing(hub: HubServer, folder: Path) -> None:
    """A real full disk: a tmpfs of 2 MiB in a mount namespace of its own, and a file of 3 MB without a length."""
    hub.files[NAME] = model_bytes(3_000_000, 8)
    hub.faults.no_length = True
    script = textwrap.dedent(f"""
        mount -t tmpfs -o size=2m none {folder} || exit 77
        {sys.executable} -c "$PULL" {hub.url}/plain/{NAME} 0 "" {folder}/{NAME}
        status=$?
        ls -A {folder}
        exit $status
    """)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={**os.environ, "PULL": PULL},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the disk is full" in done.stdout
    assert f".{NAME}.part" in done.stdout
    assert f"\n{NAME}\n" not in done.stdout


def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(hub: HubServer, folder: Path) -> None:
    from llmstack.errors import Interrupted

    def stop(progress: TransferProgress) -> None:
        if progress.stage is Stage.DOWNLOADING:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        fetch(remote(hub), folder / NAME, on_progress=stop)
    assert "goes on" in caught.value.next
    assert (folder / f".{NAME}.part").exists()
