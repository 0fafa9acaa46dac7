"""The life of a stack with a real engine and the real proxy, the same under both supervisors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.paths import TESTS
from support.poisoned_engine import install
from support.stack import Stack
from support.user_manager import UserManager
from support.wait import eventually

pytestmark = pytest.mark.timeout(1800)  # `up` is killed before each of its steps

# A first `up` shares its steps with any other, and all of those are tried; LLMSTACK_TEST_STRIDE=1 tries all here too.
STRIDE = int(os.environ.get("LLMSTACK_TEST_STRIDE", "3"))
CRASH = TESTS / "support" / "crash.py"


@pytest.fixture
def on_systemd(manager: UserManager, stack_home: Stack, demo_model: Path) -> Iterator[Stack]:
    yield stack_home.with_model(demo_model)
    stack_home.run("uninstall", "--yes")


def status(stack: Stack) -> Any:
    return stack.run("status", "--json").json


def pids(stack: Stack) -> dict[str, int]:
    return {name: service["pid"] for name, service in status(stack)["services"].items()}


def answers(stack: Stack) -> bool:
    body = {"model": "x", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    try:
        response = httpx.post(f"{stack.url}/v1/messages", json=body, headers={"x-api-key": stack.token}, timeout=60)
    except httpx.HTTPError:
        return False
    return response.status_code == 200


def ready(stack: Stack) -> Callable[[], bool]:
    return lambda: bool(status(stack)["state"] == "ready")


def broken_copy(stack: Stack, folder: Path) -> Path:
    """The demo model with one tensor under a wrong name: its header is fine, loading it is not."""
    assert stack.model is not None
    data = stack.model.read_bytes()
    assert data.count(b"blk.0.attn_q.weight") == 1
    path = folder / "broken.gguf"
    path.write_bytes(data.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"))
    return path


def test_up_again_changes_nothing_and_another_plan_restarts_only_the_server(stack: Stack, kind: str) -> None:
    stack.up()
    first = status(stack)
    assert (first["state"], first["supervisor"]) == ("ready", kind)
    assert first["services"]["proxy"]["port"] == stack.proxy_port
    stack.up()
    assert pids(stack) == {name: service["pid"] for name, service in first["services"].items()}
    stack.up("--ctx", "8192")
    after = pids(stack)
    assert after["proxy"] == first["services"]["proxy"]["pid"]
    assert after["server"] != first["services"]["server"]["pid"]
    assert answers(stack)


def test_a_killed_service_comes_back_and_its_death_is_told(stack: Stack) -> None:
    stack.up()
    for name in ("server", "proxy"):
        before = pids(stack)[name]
        os.kill(before, signal.SIGKILL)
        eventually(lambda name=name, before=before: pids(stack)[name] not in (None, before), f"{name} is back")  # type: ignore[misc]
        eventually(ready(stack), "the stack is ready again")
        service = status(stack)["services"][name]
        assert service["restarts"] == 1
        assert "SIGKILL" in service["last_exit"]
    assert answers(stack)


def test_a_request_the_engine_dies_on_is_refused_at_the_second_death(
    stack: Stack, kind: str, tmp_path: Path, built_engine: Path
) -> None:
    engine = install(tmp_path / "engine", built_engine / "llama-server")
    stack.do("engine", "use", str(engine / "llama-server"))
    stack.up()

    def post(text: str) -> httpx.Response:
        body = {"model": "x", "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
        return httpx.post(f"{stack.url}/v1/messages", json=body, headers={"x-api-key": stack.token}, timeout=60)

    assert post("POISON please").status_code == 529
    eventually(ready(stack), "it is started again")
    refused = post("POISON please")
    assert refused.status_code == 400 and "died twice on this request" in refused.text, refused.text
    assert "SIGABRT" in refused.text
    # Where /run is no mount, systemd gives a unit with a sandbox an empty one, and journald cannot be seen in it.
    assert "GGML_ASSERT" in refused.text or (kind == "systemd" and not os.path.ismount("/run"))
    eventually(ready(stack), "it is started again")
    assert answers(stack) and status(stack)["services"]["server"]["restarts"] == 2
    stack.do("restart", "server")
    assert post("POISON please").status_code == 529


def test_an_up_while_a_dead_service_waits_for_its_restart_is_no_further_death(stack: Stack) -> None:
    stack.up("--ctx", "8192")
    os.kill(pids(stack)["server"], signal.SIGKILL)
    shown = stack.run("up", str(stack.model), "--ctx", "16384", *stack.ports)
    assert shown.status == 0, shown.err
    assert status(stack)["services"]["server"]["restarts"] == 0
    assert answers(stack)


def test_a_model_that_cannot_load_leaves_the_old_stack_answering(stack: Stack, tmp_path: Path) -> None:
    stack.up("--ctx", "8192")
    before = pids(stack)
    failed = stack.run("up", str(broken_copy(stack, tmp_path)))
    assert failed.status == 1, failed.out
    assert "died while it was starting" in failed.err
    assert "attn_q.weight" in failed.err, "the excerpt names the cause"
    now = status(stack)
    assert (now["state"], now["model"]) == ("ready", stack.model.stem)
    assert pids(stack)["proxy"] == before["proxy"]
    assert answers(stack)
    assert not (stack.root / "state" / "transaction.json").exists()


def test_a_first_up_that_fails_leaves_nothing_running_and_nothing_installed(
    stack: Stack, kind: str, tmp_path: Path
) -> None:
    assert stack.run("up", str(broken_copy(stack, tmp_path)), *stack.ports).status == 1
    assert status(stack)["state"] == "stopped"
    assert stack.processes() == []
    if kind == "systemd":
        assert not list((Path(os.environ["HOME"]) / ".config").rglob("llmstack-*"))


def test_down_restart_and_logs(stack: Stack) -> None:
    stack.up()
    before = pids(stack)
    assert stack.run("restart", "proxy").status == 0
    after = pids(stack)
    assert (after["server"], after["proxy"] != before["proxy"]) == (before["server"], True)
    lines = stack.run("logs", "-n", "400", "--json").json["lines"]
    assert {line["service"] for line in lines} == {"server", "proxy"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert {line["service"] for line in stack.run("logs", "proxy", "--json").json["lines"]} == {"proxy"}
    assert stack.token not in stack.run("logs", "-n", "1000").out
    assert stack.run("down").status == 0
    stopped = stack.run("status", "--json")
    assert (stopped.status, stopped.json["state"]) == (1, "stopped")
    assert stack.processes() == []
    assert stack.run("up").status == 0
    assert answers(stack)


def test_followed_logs_show_a_request_as_it_happens(stack: Stack) -> None:
    stack.up()
    follower = subprocess.Popen(
        [sys.executable, "-m", "llmstack", "logs", "-f", "-n", "0"],
        env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert follower.stdout is not None
    try:
        time.sleep(1.0)
        assert answers(stack)
        wait_for = time.monotonic() + 10
        seen = b""
        while b"/v1/messages" not in seen and time.monotonic() < wait_for:
            seen += follower.stdout.readline()
        assert b"/v1/messages" in seen
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) in (0, 4)


def test_a_taken_port_is_refused_by_its_owner_before_anything_is_written(stack: Stack) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", stack.proxy_port))
        owner.listen()
        refused = stack.run(*stack.up_command())
    assert refused.status == 3
    assert f"pid {os.getpid()}" in refused.err
    assert not (stack.root / "state" / "stack.json").exists()
    assert not list(Path(os.environ["HOME"]).glob(f".config/systemd/user/llmstack-*{stack.root.name}*"))


def tree(*roots: Path) -> list[str]:
    return sorted(str(path) for root in roots for path in root.rglob("*"))


def test_uninstall_leaves_the_home_as_it_was(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    roots = [stack.root.parent] + ([Path(os.environ["HOME"])] if kind == "systemd" else [])
    before = tree(*roots)
    stack.up()
    assert tree(*roots) != before
    said = stack.run("uninstall", "--yes", "--json")
    assert said.json["kept"] == []
    assert tree(*roots) == before
    assert stack.processes() == []


def test_uninstall_keeps_models_when_asked(stack: Stack) -> None:
    stack.up()
    (stack.root / "data" / "models" / "mine.gguf").write_text("model")
    kept = stack.run("uninstall", "--yes", "--keep-models", "--json").json["kept"]
    assert [entry["path"] for entry in kept] == [str(stack.root / "data" / "models")]
    assert [path.name for path in stack.root.iterdir()] == ["data"]
    assert list((stack.root / "data" / "models").glob("*.gguf"))


def effects(stack: Stack, folder: Path, *command: str, limit: int) -> list[str]:
    record = folder / f"effects-{limit}"
    record.write_text("")
    done = subprocess.run(
        [sys.executable, str(CRASH), str(limit), str(record), *command],
        env=stack.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return record.read_text().splitlines()


def test_up_killed_at_any_step_is_completed_by_the_next_up(stack: Stack, kind: str, tmp_path: Path) -> None:
    stack.up("--ctx", "8192")
    every = effects(stack, tmp_path, *stack.up_command("--ctx", "12288"), limit=10_000)
    assert len(every) >= 5, every
    assert {"replace transaction.json", "replace stack.json", "unlink transaction.json"} <= set(every)
    for number in range(1, len(every) + 1):
        ctx = str(16384 + 256 * number)
        crashed = effects(stack, tmp_path, *stack.up_command("--ctx", ctx), limit=number)
        where = f"killed before {number} of {len(every)}: {crashed[-1]}"
        recovered = stack.run(*stack.up_command("--ctx", ctx))
        assert recovered.status == 0, f"{where}\n{recovered.err}"
        assert status(stack)["state"] == "ready", where
        running = [" ".join(process.cmdline()) for process in stack.processes()]
        assert sum("serve-proxy" in line for line in running) == 1, where
        assert sum(f"-c {ctx}" in line for line in running) == 1, where
        assert not (stack.root / "state" / "transaction.json").exists(), where
        torn = [p.name for p in (stack.root / "state").rglob(".*")]
        assert torn == [], where


def test_a_first_up_killed_at_any_step_is_completed_by_the_next_up(stack: Stack, kind: str, tmp_path: Path) -> None:
    every = effects(stack, tmp_path, *stack.up_command(), limit=10_000)
    stack.run("uninstall", "--yes")
    for number in range(1, len(every) + 1, STRIDE):
        crashed = effects(stack, tmp_path, *stack.up_command(), limit=number)
        where = f"killed before {number} of {len(every)}: {crashed[-1]}"
        recovered = stack.run(*stack.up_command())
        assert recovered.status == 0, f"{where}\n{recovered.err}"
        assert status(stack)["state"] == "ready", where
        assert len([p for p in stack.processes() if "serve-proxy" in p.cmdline()]) == 1, where
        assert stack.run("uninstall", "--yes").status == 0
        assert stack.processes() == [], where


def test_a_failing_up_after_a_killed_one_goes_back_to_the_last_stack_that_answered(
    stack: Stack, kind: str, tmp_path: Path
) -> None:
    stack.up("--ctx", "8192")
    every = effects(stack, tmp_path, *stack.up_command("--ctx", "12288"), limit=10_000)
    stack.up("--ctx", "8192")
    at = every.index("replace stack.json") + 2
    effects(stack, tmp_path, *stack.up_command("--ctx", "12288"), limit=at)
    assert (stack.root / "state" / "transaction.json").exists()
    assert stack.run("up", str(broken_copy(stack, tmp_path))).status == 1
    assert status(stack)["state"] == "ready"
    assert any("-c 8192" in " ".join(process.cmdline()) for process in stack.processes())


def test_a_stack_moves_from_one_supervisor_to_the_other(
    manager: UserManager, on_systemd: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_systemd.up()
    assert status(on_systemd)["supervisor"] == "systemd"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    unseen = on_systemd.run(*on_systemd.up_command())
    assert unseen.status == 3, "the ports are still held by the units that cannot be reached"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(manager.runtime))
    assert on_systemd.run("uninstall", "--yes").status == 0


def test_the_stack_is_there_after_a_boot(session_manager: UserManager, manager: UserManager, on_systemd: Stack) -> None:
    on_systemd.up()
    before = pids(on_systemd)
    session_manager.stop()
    assert on_systemd.processes() == []
    session_manager.start()
    eventually(ready(on_systemd), "the stack is ready without a command")
    assert set(before.values()).isdisjoint(pids(on_systemd).values())
    assert answers(on_systemd)
    on_systemd.run("uninstall", "--yes")


def test_out_of_memory_again_and_again_stops_and_status_says_so(manager: UserManager, on_systemd: Stack) -> None:
    on_systemd.up()
    unit = next((manager.home / ".config/systemd/user").glob("llmstack-server-*.service"))
    drop_in = unit.with_name(f"{unit.name}.d") / "small.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=100ms\nMemoryMax=10M\nMemoryHigh=infinity\n")
    failed = on_systemd.run("restart", "server")
    assert failed.status == 1
    eventually(lambda: status(on_systemd)["services"]["server"]["state"] == "failed", "its limit stops it")
    told = on_systemd.run("status")
    assert told.status == 1
    assert "out of memory" in told.out
    assert "--ctx" in told.out, "the next command is a smaller plan"
    doctor = on_systemd.run("doctor", "--json").json
    assert any("out of memory" in check["finding"] and "--ctx" in check["remedy"] for check in doctor["checks"])
    drop_in.unlink()
    drop_in.parent.rmdir()
    assert on_systemd.run("uninstall", "--yes").status == 0


def test_an_edited_unit_is_kept_with_a_word_and_replaced_by_force(manager: UserManager, on_systemd: Stack) -> None:
    on_systemd.up("--ctx", "8192")
    unit = next((manager.home / ".config/systemd/user").glob("llmstack-server-*.service"))
    unit.write_text(unit.read_text().replace("RestartSec=2", "RestartSec=3"))
    kept = on_systemd.run(*on_systemd.up_command("--ctx", "12288"))
    assert kept.status == 0
    assert "edited by hand" in kept.err and "--force" in kept.err
    assert "-c 8192" in unit.read_text()
    found = on_systemd.run("doctor", "--json").json["checks"]
    assert any("edited by hand" in check["finding"] and check["status"] == "warn" for check in found)
    assert on_systemd.run(*on_systemd.up_command("--ctx", "12288", "--force")).status == 0
    assert "-c 12288" in unit.read_text() and "RestartSec=2" in unit.read_text()


def test_a_bundle_holds_what_a_report_needs_and_no_secret(stack: Stack, kind: str, tmp_path: Path) -> None:
    stack.up()
    file = tmp_path / "report.tar.gz"
    assert stack.run("doctor", "--bundle", str(file)).status in (0, 1)
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as archive:
        parts = {
            Path(member.name).name: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive.getmembers()
        }
    assert {"doctor.json", "facts.json", "versions.txt", "stack.json", "services.log"} <= set(parts)
    assert any(name.endswith(".service") for name in parts) is (kind == "systemd")
    everything = "\n".join(parts.values())
    for secret in (stack.token, (stack.root / "state" / "server.key").read_text().strip()):
        assert secret not in everything
    assert "listening on" in parts["services.log"]


def test_a_proxy_that_hangs_is_ended_by_its_watchdog_and_started_again(manager: UserManager, on_systemd: Stack) -> None:
    on_systemd.up()
    unit = next((manager.home / ".config/systemd/user").glob("llmstack-proxy-*.service"))
    drop_in = unit.with_name(f"{unit.name}.d") / "quick.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n")
    assert on_systemd.run("restart", "proxy").status == 0
    hung = pids(on_systemd)["proxy"]
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: status(on_systemd)["services"]["proxy"]["pid"] not in (None, hung), "a new proxy")
    eventually(ready(on_systemd), "the stack is ready again")
    drop_in.unlink()
    drop_in.parent.rmdir()


def test_a_watched_status_is_drawn_again_and_again(stack: Stack, kind: str) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "llmstack", "status", "--watch", "--every", "0.2"],
        env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        heads = [line for line in (watching.stdout.readline() for _ in range(9)) if line.startswith("stopped")]
        assert len(heads) >= 2
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0, "Ctrl-C is how a watch ends"
