"""Warm start on a real engine: what was computed once comes back after a stop, and never for another server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support.stack import Stack
from support.talker import Answer, Talker, events
from support.wait import eventually


def talker(home: Stack, **more: Any) -> Talker:
    return Talker(home.url, home.token, **more)


def states(home: Stack, kind: str = "*") -> list[Path]:
    return sorted((home.root / "cache" / "slots").glob(f"*/{kind}-*.kv"))


def proxy_log(home: Stack) -> Path:
    return home.root / "state" / "logs" / "proxy.log"


def warm_of(home: Stack) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{home.url}/health", timeout=10).json()["warm"]
    return found


def saved(home: Stack) -> Answer:
    """A prefix is computed, used and on disk; the stack is down afterwards."""
    answer = talker(home).ask("hello")
    assert states(home, "prefix")
    assert home.run("down").status == 0
    return answer


@pytest.fixture
def home(stack_home: Stack) -> Stack:
    stack_home.up()
    return stack_home


class TestARestart:
    def test_the_next_conversation_computes_only_what_is_new(self, home: Stack) -> None:
        cold = talker(home).ask("hello there")
        warm = talker(home, session="session-2").ask("another question")
        assert warm.computed < 32
        assert home.run("restart").status == 0
        restarted = talker(home, session="session-3").ask("a third question")
        assert restarted.computed < 32 and restarted.total > 2000
        assert restarted.text == warm.text == cold.text
        status = home.run("status", "--json").json["warm"]
        assert status["state"] == "warm" and status["prefix_tokens"] > 2000

    def test_a_conversation_goes_on_where_it_was_after_down_and_up(self, home: Stack) -> None:
        turns: list[Any] = ["first question"]
        for more in ("second question", "third question"):
            answer = talker(home).ask(*turns, max_tokens=40)
            turns += [{"role": "assistant", "content": answer.content}, more]
        before = talker(home).ask(*turns[:3])
        assert home.run("down").status == 0
        assert home.run("up").status == 0
        after = talker(home).ask(*turns)
        assert after.cached >= before.total - 32

    def test_the_restored_state_is_there_before_up_returns(self, home: Stack) -> None:
        saved(home)
        shown = home.run("up")
        assert shown.status == 0, shown.err
        assert warm_of(home)["source"] == "restored"
        assert "restored from disk" in home.run("status").out

    def test_a_killed_server_is_warm_again_when_its_supervisor_has_started_it(self, home: Stack) -> None:
        talker(home).ask("hello")
        pid = home.run("status", "--json").json["services"]["server"]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pid))
        eventually(lambda: home.run("status", "--json").json["state"] == "ready")
        assert talker(home, session="session-2").ask("and now?").computed < 32

    def test_files_are_readable_by_their_owner_only(self, home: Stack) -> None:
        saved(home)
        folder = home.root / "cache" / "slots"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) >= 4
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert {path.stat().st_mode & 0o777 for path in (folder, *folder.glob("*/"))} == {0o700}


class TestAStateIsOnlyForItsOwnServer:
    """Each change makes the states of before useless; the answers stay right."""

    @pytest.mark.parametrize("flag", [("--kv-type", "q8_0"), ("--ctx", "32768")])
    def test_another_kv_type_or_context_restores_nothing(self, home: Stack, flag: tuple[str, str]) -> None:
        before = saved(home)
        home.up(*flag)
        assert warm_of(home)["source"] != "restored"
        again = talker(home).ask("hello")
        assert again.text == before.text
        assert len({path.parent for path in states(home)}) == 2

    def test_a_model_file_that_was_replaced_restores_nothing(self, home: Stack) -> None:
        before = saved(home)
        record = json.loads((home.root / "state" / "stack.json").read_text())
        model = Path(record["model"]["path"])
        copy = model.with_suffix(".copy")
        copy.write_bytes(model.read_bytes())
        copy.replace(model)
        assert home.run("restart").status == 0
        assert warm_of(home)["source"] != "restored"
        assert any(line["result"] == "ignored" for line in events(proxy_log(home), "warm"))
        assert talker(home).ask("hello").text == before.text


class TestFaults:
    def test_a_state_cut_off_anywhere_is_ignored_and_removed_and_the_stack_answers(self, home: Stack) -> None:
        before = saved(home)
        folder = home.root / "cache" / "slots"
        for path in folder.rglob("*.prefix"):  # else a whole state would be computed anew in the background
            path.unlink()
        originals = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        home.run("up")
        for part in range(16):
            for path, data in originals.items():
                path.write_bytes(data[: len(data) * part // 16] if path.suffix == ".kv" else data)
                path.chmod(0o600)
            answered = httpx.post(
                f"{home.url}/llmstack/warm/restore", headers={"x-api-key": home.token}, timeout=60
            ).json()
            assert answered["source"] != "restored", part
            assert not [path for path in originals if path.exists()], part
        assert talker(home).ask("hello").text == before.text
        dropped = [line for line in events(proxy_log(home), "snapshot") if line["result"] == "ignored"]
        assert len(dropped) >= 16

    def test_a_state_whose_bytes_changed_is_not_restored(self, home: Stack) -> None:
        saved(home)
        for path in states(home):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        assert home.run("up").status == 0
        assert warm_of(home)["source"] != "restored"
        assert any("not what was saved" in line["why"] for line in events(proxy_log(home), "snapshot") if "why" in line)

    def test_what_a_killed_save_left_is_removed_and_named(self, home: Stack) -> None:
        saved(home)
        folder = states(home)[0].parent
        for left in ("new-0123456789abcdef.kv", "prefix-lonely.kv"):
            (folder / left).write_bytes(b"half a state")
        assert home.run("up").status == 0
        assert not (folder / "new-0123456789abcdef.kv").exists()
        named = {line.get("file") for line in events(proxy_log(home), "snapshot")}
        assert {"new-0123456789abcdef.kv", "prefix-lonely.kv"} <= named

    def test_a_folder_that_cannot_be_written_costs_the_state_only(self, home: Stack) -> None:
        talker(home).ask("hello")
        folder = states(home)[0].parent
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("a file where the folder was")
        answer = talker(home, topic="Cooking").ask("hello")
        assert answer.text
        assert any(line["result"] == "dropped" for line in events(proxy_log(home), "snapshot"))
        folder.unlink()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = Stack.in_folder(tmp_path_factory.mktemp("warm") / "home")
    home.up()
    yield home
    home.end()


class TestSlots:
    def test_side_calls_and_agents_leave_the_main_conversation_warm(self, shared: Stack) -> None:
        """The complaint of llama.cpp#22746: sub-agents evict the main conversation's cache."""
        main = talker(shared, session="main", lines=300)
        first = main.ask("begin", max_tokens=40)
        turns: list[Any] = ["begin", {"role": "assistant", "content": first.content}, "go on"]
        main.ask(*turns)
        side = httpx.post(
            f"{shared.url}/v1/messages",
            headers={"x-api-key": shared.token, "x-claude-code-session-id": "main"},
            json={
                "model": "claude-haiku-4-5",
                "max_tokens": 8,
                "system": "Give a title of five words.",
                "messages": [{"role": "user", "content": "begin"}],
            },
            timeout=60,
        )
        assert side.status_code == 200
        for agent, topic in (("a1", "Searching"), ("a2", "Planning")):
            talker(shared, session="main", agent=agent, topic=topic).ask("look around")
        after = main.ask(*turns)
        assert after.cached >= 0.95 * after.total

    def test_a_tool_using_session_computes_only_what_is_new(self, shared: Stack) -> None:
        agent = talker(shared, session="tools", topic="Building")
        turns: list[Any] = ["build it"]
        before = 0
        for number in range(10):
            answer = agent.ask(*turns, max_tokens=60, tool_choice={"type": "any"})
            call = next(block for block in answer.content if block["type"] == "tool_use")
            if number:
                assert answer.cached >= before - 8, number
            before = answer.total
            result = {"type": "tool_result", "tool_use_id": call["id"], "content": f"found {number}"}
            turns += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
