"""The manager observes and acts as the policy says: a server in memory, a temporary folder, a clock set by the test."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from llmstack.warmstart.interface import SlotError
from llmstack.warmstart.manager import WarmStartManager
from llmstack.warmstart.policy import QUIET_S, RETRY_S
from llmstack.warmstart.prefix import Body
from llmstack.warmstart.store import Store

from .conftest import Said
from .memory_server import MemoryServer, age, conversation, running, side_call

Scene = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """One server, one manager, and what both leave behind."""

    def __init__(self, root: Path, said: Said, **facts: Any) -> None:
        self.root = root
        self.said = said
        self.now = 1000.0
        self.store = Store(root / "slots", log_event=said)
        self.server = MemoryServer(running(root / "slots" / "flags", **facts))
        self.up_note = root / "transaction.json"
        self.manager = self.new_manager()

    def new_manager(self) -> WarmStartManager:
        """As after a restart of the proxy."""
        return WarmStartManager(self.server, self.store, self.up_note, self.said, clock=lambda: self.now)

    async def ask(self, body: Body, name: str = "") -> int:
        """One request through the manager; tokens that the server had to compute for it."""
        async with self.manager.prefix_ready(body, name):
            return self.server.complete(body)

    async def quiet(self) -> None:
        """Time passes without a request, and the watch ticks."""
        self.now += QUIET_S + 1
        await self.manager.tick()

    async def until(self, condition: Callable[[], bool]) -> None:
        """What runs in the background has come so far."""
        for _ in range(5000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it did not come to be")

    async def warmed_up(self) -> None:
        await self.until(lambda: self.manager.status_json()["state"] == "warm")

    async def prefilling(self) -> None:
        await self.until(lambda: "prefill" in self.server.calls)

    async def stopped(self, marker: str) -> None:
        """The stack stops and starts again, both services."""
        await self.manager.save_all()
        age(self.store.root)
        self.server.restart(marker)
        self.manager = self.new_manager()

    def events(self, event: str) -> list[tuple[str, Any]]:
        return [
            (line["result"], line.get("kind", line.get("why"))) for line in self.said.lines if line["event"] == event
        ]

    def kinds(self) -> list[str]:
        return sorted(state.kind for state in self.store.states())


def play(root: Path, said: Said, scene: Scene, **facts: Any) -> None:
    async def played() -> None:
        await scene(World(root, said, **facts))

    asyncio.run(played())


def test_a_new_prefix_is_computed_to_its_end_and_saved_before_the_request_is_sent(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        body = conversation("gardening", "hello")
        assert await world.ask(body) < 32
        [state] = world.store.states()
        assert state.kind == "prefix" and state.path.parent == world.server.facts.states_folder
        assert world.store.tokens(state) == array("I", list(f"<system>{body['messages'][0]['content']}<user>".encode()))
        assert world.events("snapshot") == [("saved", "prefix")]
        assert world.manager.status_json() == {
            "state": "warm", "prefix_tokens": state.tokens, "source": "computed",
        }  # fmt: skip

    play(tmp_path, said, scene)


def test_the_next_conversation_and_the_next_turn_are_left_to_the_server(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        world.server.calls.clear()
        await world.ask(conversation("gardening", "another"), "b")
        await world.ask(conversation("gardening", "another", "yes", "go on"), "b")
        assert world.server.calls == []
        world.now += 1
        await world.ask(conversation("gardening", "another", "yes", "go on", "ok", "more"), "b")
        assert world.server.calls == ["props"]

    play(tmp_path, said, scene)


def test_a_conversation_goes_on_where_it_was_after_a_stop_and_a_start(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        turns = ("hello", "hi", "a question " * 50)
        await world.ask(conversation("gardening", *turns), "main")
        await world.stopped("process 2")
        await world.manager.tick()
        assert world.manager.status_json()["source"] == "restored"
        assert await world.ask(conversation("gardening", *turns, "an answer", "and?"), "main") < 32

    play(tmp_path, said, scene)


def test_a_restarted_proxy_leaves_the_slots_of_a_server_that_went_on(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        world.manager = world.new_manager()
        world.server.calls.clear()
        await world.manager.tick()
        assert world.server.calls == ["props", "slots"]
        assert world.manager.status_json()["source"] == "kept"

    play(tmp_path, said, scene)


def test_a_health_check_in_fresh_slots_does_not_keep_the_states_out(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        world.server.complete(conversation("health", "check"))
        assert (await world.manager.restore_again())["source"] == "restored"
        assert await world.ask(conversation("gardening", "hello")) < 32

    play(tmp_path, said, scene)


def test_a_state_is_not_restored_between_the_prompts_of_a_health_check(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        world.up_note.write_text("{}")
        await world.quiet()
        assert [len(slot.tokens) for slot in world.server.memory] == [0]
        world.server.complete(conversation("health", "check"))
        await world.quiet()
        assert world.server.complete(conversation("health", "check")) <= 1
        await world.manager.restore_again()
        world.up_note.unlink()
        await world.quiet()
        assert await world.ask(conversation("gardening", "hello")) < 32

    play(tmp_path, said, scene)


def test_after_an_up_that_failed_the_old_server_gets_its_states(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        world.up_note.write_text("{}")
        await world.quiet()
        world.server.restart("process 3")
        world.up_note.unlink()
        await world.quiet()
        assert await world.ask(conversation("gardening", "hello")) < 32

    play(tmp_path, said, scene)


def test_a_server_that_did_not_show_its_slots_at_first_gets_its_states_at_the_next_look(
    tmp_path: Path, said: Said
) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        world.server.failing_looks = 1
        await world.manager.tick()
        assert world.manager.status_json()["state"] == "cold"
        world.now += 2
        await world.manager.tick()
        assert world.manager.status_json()["source"] == "restored"

    play(tmp_path, said, scene)


def test_a_torn_state_is_passed_over_for_the_next_one(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        torn = next(state for state in world.store.states() if state.kind == "conversation")
        data = torn.path.read_bytes()
        torn.path.write_bytes(data[:-1] + b"?")
        await world.manager.tick()
        assert ("ignored", "conversation") in world.events("snapshot")
        assert ("restored", "prefix") in world.events("warm") and world.kinds() == ["prefix"]

    play(tmp_path, said, scene)


def test_states_of_another_template_are_named_and_stay_out(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        world.server.template = "another"
        await world.manager.tick()
        assert not [call for call in world.server.calls if call.startswith("restore")]
        assert world.events("warm")[-1] == ("ignored", "of another model, build or template")

    play(tmp_path, said, scene)


async def without_states(world: World) -> None:
    """A fresh server whose last prefix is known as a request only."""
    await world.ask(conversation("gardening", "hello"))
    await world.stopped("process 2")
    for state in world.store.states():
        state.path.unlink()
    await world.manager.tick()
    assert world.manager.status_json()["state"] == "cold"


class TestTheWarmUp:
    def test_computes_the_last_prefix_when_it_is_quiet(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            assert "prefill" not in world.server.calls
            await world.quiet()
            await world.warmed_up()
            assert world.kinds() == ["prefix"]
            assert await world.ask(conversation("gardening", "hello")) < 32

        play(tmp_path, said, scene)

    def test_waits_for_the_end_of_an_up(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.up_note.write_text("{}")
            await world.quiet()
            assert "prefill" not in world.server.calls
            world.up_note.unlink()
            await world.quiet()
            await world.warmed_up()

        play(tmp_path, said, scene)

    def test_begins_at_once_when_that_up_has_restored_what_there_was(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.up_note.write_text("{}")
            await world.manager.restore_again()
            await world.warmed_up()

        play(tmp_path, said, scene)

    def test_shows_how_far_it_is(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.server.gate.clear()
            await world.quiet()
            await world.prefilling()
            world.now += 4
            status = world.manager.status_json()
            assert status["state"] == "warming" and status["done"] == status["of"] // 2
            assert status["left_s"] == pytest.approx(4, abs=0.1)
            world.server.gate.set()
            await world.warmed_up()

        play(tmp_path, said, scene)

    def test_stops_for_another_request_and_goes_on_later(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.server.gate.clear()
            await world.quiet()
            await world.prefilling()
            await world.ask(side_call())
            await world.until(lambda: world.manager.status_json()["state"] == "cold")
            world.server.gate.set()
            await world.quiet()
            await world.warmed_up()
            assert world.server.calls.count("prefill") == 2

        play(tmp_path, said, scene)

    @pytest.mark.parametrize("fault", [SlotError("out of memory"), KeyError("id_slot"), RuntimeError("our own fault")])
    def test_is_tried_once_more_when_it_failed_and_then_given_up(
        self, tmp_path: Path, said: Said, fault: Exception
    ) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.server.prefill_fault = fault
            world.server.failing_prefills = 2

            async def tries(seconds: float, expected: int) -> int:
                """Once as many have failed as are expected: the time must not go on before each was noted."""
                world.now += seconds
                await world.quiet()
                await world.until(lambda: [result for result, _ in world.events("warm")].count("failed") == expected)
                await asyncio.sleep(0.01)
                return world.server.calls.count("prefill")

            steps = ((0, 1), (0, 1), (RETRY_S, 2), (RETRY_S, 2))
            assert [await tries(*step) for step in steps] == [1, 1, 2, 2]
            assert [result for result, _ in world.events("warm")].count("failed") == 2

        play(tmp_path, said, scene)

    def test_is_left_out_when_the_engine_died_on_its_prefix(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            body = conversation("gardening", "hello")
            world.server.deadly = array("I", list(f"<system>{body['messages'][0]['content']}<user>".encode()))
            for _ in range(3):
                await world.quiet()
                await asyncio.sleep(0.01)
            await world.until(lambda: ("skipped", "the engine died on it before") in world.events("warm"))
            await world.ask(body)
            assert "prefill" not in world.server.calls

        play(tmp_path, said, scene)

    def test_is_waited_for_by_a_request_of_its_prefix(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.server.gate.clear()
            await world.quiet()
            asking = asyncio.create_task(world.ask(conversation("gardening", "hello")))
            await asyncio.sleep(0.01)
            assert not asking.done()
            world.server.gate.set()
            assert await asking < 32
            assert world.server.calls.count("prefill") == 1

        play(tmp_path, said, scene)

    def test_that_fails_is_named_and_not_tried_again(self, tmp_path: Path, said: Said) -> None:
        async def scene(world: World) -> None:
            await without_states(world)
            world.server.gate.clear()
            await world.quiet()
            (world.store.root / "flags").rename(world.root / "gone")
            (world.store.root / "flags").write_text("a file where the folder was")
            world.server.gate.set()
            await world.warmed_up()
            assert ("dropped", "prefix") in world.events("snapshot")
            await world.quiet()
            assert world.server.calls.count("prefill") == 1

        play(tmp_path, said, scene)


def test_a_fault_of_the_warm_start_is_no_fault_of_the_request(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        world.server.tokens = world.server.slots = None  # type: ignore[assignment, method-assign]
        assert await world.ask(conversation("cooking", "hello")) > 1000
        assert world.events("warm")[-1][0] == "failed"

    play(tmp_path, said, scene)


def test_a_disk_that_is_full_costs_the_state_only(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        world.server.saves = False
        await world.ask(conversation("gardening", "hello"))
        assert world.events("snapshot") == [("dropped", "prefix")] and not list(world.store.root.glob("*/*"))

    play(tmp_path, said, scene)


def test_a_server_that_is_gone_is_forgotten_and_its_successor_gets_the_states(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        world.server.answers = False
        await world.quiet()
        assert world.manager.status_json() == {"state": "cold", "prefix_tokens": 0, "source": None}
        world.server.answers = True
        world.server.restart("process 2")
        await world.manager.tick()
        assert world.manager.status_json()["source"] == "restored"

    play(tmp_path, said, scene)


def test_without_a_cache_a_side_call_costs_the_main_conversation_nothing(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        turns = ("hello", "hi", "a question " * 50)
        await world.ask(conversation("gardening", *turns), "main")
        await world.ask(side_call())
        assert "conversation" in world.kinds()
        assert await world.ask(conversation("gardening", *turns, "an answer", "and?"), "main") < 32

    play(tmp_path, said, scene, cache_ram_mib=0)


def test_without_a_cache_no_more_requests_pass_than_there_are_slots(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(side_call())
        await world.manager.tick()
        async with world.manager.prefix_ready(side_call(), ""):
            waiting = asyncio.create_task(world.ask(side_call()))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await waiting

    play(tmp_path, said, scene, cache_ram_mib=0)


def test_a_recurrent_model_takes_a_prefix_from_disk_once_its_conversation_went_on(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"), "a")
        await world.stopped("process 2")
        await world.ask(conversation("gardening", "something else"), "b")
        assert ("restored", "prefix") in world.events("warm")

    play(tmp_path, said, scene, recurrent=True)


def test_a_sliding_window_saves_and_restores_nothing(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"))
        assert await world.manager.save_all() == 0
        assert not world.store.states()
        assert not {"prefill", "save 0", "restore 0"} & set(world.server.calls)

    play(tmp_path, said, scene, sliding_window=True)


def test_a_stop_saves_each_slot_once_and_counts_what_is_on_disk(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        await world.ask(conversation("gardening", "hello"), "a")
        await world.ask(conversation("cooking", "hello"), "b")
        assert await world.manager.save_all() == 2
        saves = [call for call in world.server.calls if call.startswith("save")]
        assert await world.manager.save_all() == 2
        assert [call for call in world.server.calls if call.startswith("save")] == saves

    play(tmp_path, said, scene, n_parallel=2)


def test_on_demand_the_prefix_used_last_is_computed(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        assert (await world.manager.warm(None))["prefix_tokens"] == 0
        await world.ask(conversation("gardening", "hello"))
        await world.stopped("process 2")
        for state in world.store.states():
            state.path.unlink()
        assert (await world.manager.warm(None))["source"] == "computed"
        assert (await world.manager.warm(conversation("cooking", "hello")))["source"] == "computed"

    play(tmp_path, said, scene)


def test_two_servers_share_a_store_and_leave_each_others_saves_alone(tmp_path: Path, said: Said) -> None:
    async def scene(world: World) -> None:
        other = World(tmp_path, said, states_folder=tmp_path / "slots" / "other flags")
        other.store = world.store
        other.manager = other.new_manager()
        name = world.store.begin(tmp_path / "slots" / "flags")  # the first one is saving
        await other.ask(conversation("cooking", "hello"))
        assert (tmp_path / "slots" / "flags" / name).exists()
        assert {Path(state.folder).name for state in world.store.states()} == {"other flags"}
        await world.ask(conversation("cooking", "hello"))
        assert "restore 0" not in world.server.calls, "a state of another server's folder"

    play(tmp_path, said, scene)
