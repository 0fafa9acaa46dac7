"""After the start the engine's deeds are held against the plan: real servers, one that lists a card it does not use."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmstack import paths
from llmstack.deploy.ensure_ready import ensure_ready
from llmstack.errors import NotSo
from support.card_engine import CARD, TRAINED, CardEngine
from support.models import write_model
from support.stack import Stack
from support.wait import eventually

# The card is a processor in truth, and a plan for a card takes a cache that is slow there: a short prompt will do.
SMALL = ("--ctx", "2048")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def engine(built_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CardEngine:
    made = CardEngine.made_of(built_engine, tmp_path / "engine")
    monkeypatch.setenv("PYTHONPATH", made.driver)
    return made


@pytest.fixture
def stack(engine: CardEngine, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack.in_folder(tmp_path / "home").with_model(write_model("dense", tmp_path / "dense.gguf"))
    try:
        stack.do("engine", "use", engine.binary)
        yield stack
    finally:
        stack.end()


def status(stack: Stack) -> Any:
    return stack.run("status", "--json").json


def server_argv(stack: Stack) -> list[str]:
    argv: list[str] = json.loads((stack.root / "state" / "stack.json").read_text())["server"]["argv"]
    return argv


def test_a_card_that_computes_is_as_planned_and_what_it_holds_is_shown(stack: Stack) -> None:
    stack.up(*SMALL)
    argv = server_argv(stack)
    assert argv[argv.index("-ngl") + 1] != "0"
    now = status(stack)
    assert now["state"] == "ready" and now["findings"] == []
    served = now["served"]
    assert served["layers"] == served["layers_of"] == 9
    assert list(served["buffers_mib"]) == ["CUDA0"]
    assert served["vram_mib"] == 600
    checks = stack.run("doctor", "--json").json["checks"]
    [finding] = [check for check in checks if check["name"] == "served"]
    assert finding["status"] == "ok" and "9 of 9 layers" in finding["finding"]


def test_fault_54_an_engine_that_lists_a_card_and_computes_on_the_processor_fails_up_and_the_previous_stack_runs(
    stack: Stack, engine: CardEngine
) -> None:
    stack.up(*SMALL)
    before = server_argv(stack)
    engine.becomes("processor")
    failed = stack.run(*stack.up_command("--ctx", "4096"))
    assert failed.status == 1
    assert (
        f"the engine lists the card and computes on the processor: the plan puts 9 of 9 layers on {CARD}" in failed.err
    )
    assert "putting the previous stack back" in failed.err
    assert "engine list" in failed.err and "--set ngl=0" in failed.err
    assert server_argv(stack) == before
    assert status(stack)["services"]["server"]["state"] == "running"
    # The way out that it names is one.
    stack.up(*SMALL, "--set", "ngl=0")
    assert status(stack)["state"] == "ready"


def test_fault_55_a_start_without_any_command_of_ours_is_compared_by_status_doctor_and_claude(
    stack: Stack, engine: CardEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a boot: the supervisor starts the server anew, and the driver is broken by then."""
    stack.up(*SMALL)
    before = status(stack)["services"]["server"]["pid"]
    engine.becomes("processor")
    os.kill(before, signal.SIGKILL)

    def is_degraded() -> bool:
        now = status(stack)
        return now["services"]["server"]["pid"] not in (None, before) and now["state"] == "degraded"

    eventually(is_degraded, "status is degraded", 60)
    ran = stack.run("status", "--json")
    assert ran.status == 1
    assert "computes on the processor" in ran.json["cause"] and "engine list" in ran.json["next"]
    assert [finding["status"] for finding in ran.json["findings"]] == ["fail"]
    doctor = stack.run("doctor", "--json")
    assert doctor.status == 1
    assert "computes on the processor" in str([c for c in doctor.json["checks"] if c["name"] == "served"])
    monkeypatch.setenv("LLMSTACK_HOME", str(stack.root))
    with pytest.raises(NotSo) as refused:  # what `claude` asks before it starts
        ensure_ready(paths.home(), lambda _: None)
    assert "computes on the processor" in refused.value.why and "engine list" in refused.value.next
    # The card is back: a restart is enough, and says so.
    engine.becomes("card")
    stack.do("restart", "server")
    assert status(stack)["state"] == "ready"


def test_a_restart_that_leaves_the_card_unused_says_so(stack: Stack, engine: CardEngine) -> None:
    stack.up(*SMALL)
    engine.becomes("processor")
    ran = stack.run("restart", "server")
    assert ran.status == 1 and "computes on the processor" in ran.err


def test_fault_56_a_context_that_the_engine_capped_fails_up_with_what_the_model_was_trained_on(
    stack: Stack, engine: CardEngine
) -> None:
    engine.becomes("short")
    failed = stack.run(*stack.up_command("--ctx", "4096"))
    assert failed.status == 1
    assert f"the engine serves {TRAINED:,} tokens for each conversation, planned 4,096" in failed.err
    assert f"trained on {TRAINED:,} tokens" in failed.err
    assert f"--ctx {TRAINED}" in failed.err
    assert status(stack)["state"] == "stopped"
    stack.up("--ctx", str(TRAINED))
    assert status(stack)["served"]["n_ctx_slot"] == TRAINED


def test_what_clients_are_given_is_the_context_of_props(stack: Stack) -> None:
    """The engine pads a context to 256 tokens."""
    stack.up("--ctx", "1000")
    served = status(stack)["served"]["n_ctx_slot"]
    assert served == 1024
    assert str(served) in stack.run("env").out


def test_a_device_that_is_gone_at_the_start_is_named(stack: Stack, engine: CardEngine) -> None:
    engine.becomes("gone")
    failed = stack.run(*stack.up_command(*SMALL))
    assert failed.status == 1
    assert "the engine has no device CUDA0" in failed.err
    assert "engine list" in failed.err
