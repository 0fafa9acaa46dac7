"""`engine upgrade` and `engine rollback` on real engines: the built one, the embedded one, and builds that went bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import bad_engine
from support.claude_code import plain, run
from support.models import write_model
from support.stack import Ran, Stack
from support.talker import Talker

PROOFS = {
    "starts", "forced tool calls", "your client's tools", "free tool calls", "streams", "schemas", "large tools",
    "second turn", "snapshot", "prefill", "decode", "same text",
}  # fmt: skip

pytestmark = pytest.mark.timeout(1700)  # two engines are asked everything, one of them a slow one, on a busy machine


@pytest.fixture
def old_stack(stack_home: Stack, built_engine: Path) -> Iterator[Stack]:
    """A demo stack that runs on the built engine."""
    assert stack_home.run("engine", "use", str(built_engine / "llama-server")).status == 0
    stack_home.up()
    yield stack_home


def proofs(ran: Ran) -> dict[str, dict[str, object]]:
    return {proof["name"]: proof for proof in ran.json["proofs"]}


def left_behind(stack: Stack) -> list[Path]:
    return list((stack.root / "cache").glob("trial-*"))


def test_an_engine_that_proves_itself_is_moved_to_and_a_rollback_finds_what_was_saved(
    old_stack: Stack, built_engine: Path, claude_code: Path
) -> None:
    old = str(built_engine / "llama-server")
    client = [str(claude_code), "-p", "ping"]
    assert run(client, plain(old_stack.url, old_stack.token), old_stack.root, "work")["tokens_in"] > 10_000
    talker = Talker(old_stack.url, old_stack.token)
    talker.ask("What grows in May?")
    again = talker.ask("What grows in May?")
    assert again.cached > 2000

    ran = old_stack.run("engine", "upgrade", "--to", "embedded", "--json", timeout_s=600)
    assert ran.status == 0, ran.out + ran.err
    seen = proofs(ran)
    assert set(seen) >= PROOFS
    assert [name for name, proof in seen.items() if proof["ok"] is False] == []
    assert ran.json["tools"] == "the tools your client sends"
    assert ran.json["switched"]
    record = old_stack.record()
    assert record["server"]["engine"] == "embedded"
    assert Talker(old_stack.url, old_stack.token).ask("hello").total > 2000

    back = old_stack.run("engine", "rollback", "--json")
    assert back.status == 0, back.out + back.err
    assert back.json["engine"]["name"] == old and back.json["stack_moved"]
    assert old_stack.record()["server"]["engine"] == old
    first = Talker(old_stack.url, old_stack.token).ask("What grows in May?")
    assert first.cached >= 0.9 * again.total  # saved by that build, before the upgrade
    assert left_behind(old_stack) == []


@pytest.mark.parametrize(
    ("way", "proof"),
    [("no-calls", "forced tool calls"), ("forgetful", "second turn")],
)
def test_an_engine_that_went_bad_is_named_by_its_proof_and_the_old_one_stays(
    old_stack: Stack, built_engine: Path, tmp_path: Path, way: str, proof: str
) -> None:
    bad = bad_engine.install(tmp_path / "bad", way, built_engine / "llama-server")
    before = old_stack.record()
    ran = old_stack.run("engine", "upgrade", "--to", str(bad), "--json", timeout_s=840)
    assert ran.status == 1, ran.out + ran.err
    assert proofs(ran)[proof]["ok"] is False, ran.out
    assert not ran.json["switched"]
    assert old_stack.record() == before
    listed = old_stack.run("engine", "list", "--no-devices", "--json").json["engines"]
    assert [engine["name"] for engine in listed if engine["in_use"]] == [str(built_engine / "llama-server")]
    assert Talker(old_stack.url, old_stack.token).ask("hello").total > 2000  # it went on serving
    assert left_behind(old_stack) == []
    if way == "no-calls":  # and who insists gets it, and is told the way back
        ran = old_stack.run("engine", "upgrade", "--to", str(bad), "--insist", timeout_s=600)
        assert ran.status == 0, ran.out + ran.err
        assert "forced tool calls" in ran.out and "engine rollback" in ran.out
        assert old_stack.record()["server"]["engine"] == str(bad)


@pytest.fixture
def slow_engine(built_engine: Path, tmp_path: Path) -> Path:
    """With --long: both engines answer every question about a model that is large enough to be judged by its speed."""
    return bad_engine.install(tmp_path / "bad", "slow", built_engine / "llama-server")


def test_a_slow_engine_is_named_by_its_speeds_and_the_old_one_stays(
    old_stack: Stack, slow_engine: Path, tmp_path: Path
) -> None:
    old_stack.do("up", str(write_model("dense", tmp_path / "dense.gguf", blocks=56)), "--ctx", "8192")
    before = old_stack.record()
    ran = old_stack.run("engine", "upgrade", "--to", str(slow_engine), "--json", timeout_s=1600)
    assert ran.status == 1, ran.out + ran.err
    assert any(proofs(ran)[name]["ok"] is False for name in ("prefill", "decode")), ran.out
    assert not ran.json["switched"] and old_stack.record() == before


def test_without_a_deployed_stack_an_upgrade_says_what_to_do(stack_home: Stack) -> None:
    ran = stack_home.run("engine", "upgrade")
    assert ran.status == 1
    assert "no stack to prove an engine on" in ran.err and "engine install" in ran.err


def test_the_engine_that_runs_already_is_not_tried_again(old_stack: Stack, built_engine: Path) -> None:
    ran = old_stack.run("engine", "upgrade", "--to", str(built_engine / "llama-server"))
    assert ran.status == 1
    assert "runs on" in ran.err and "already" in ran.err
