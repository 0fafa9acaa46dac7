"""The warm start's decisions, row by row of the table in policy.py, and each pair of rows that can meet.

Nothing here asks a server, reads a file or a clock: observations in, actions out, the time is an argument.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmstack.warmstart import actions as do
from llmstack.warmstart import observations as seen
from llmstack.warmstart import policy
from llmstack.warmstart.actions import Action
from llmstack.warmstart.interface import Slot
from llmstack.warmstart.observations import ServerTraits, SlotView
from llmstack.warmstart.policy import DEPLOYING_S, FRESH_S, QUIET_S, RETRY_S, WARM_UP_TRIES, decide
from llmstack.warmstart.prefix import MIN_BYTES, MIN_TOKENS
from llmstack.warmstart.store import StateKind, StoredState

DENSE = ServerTraits()
RECURRENT = ServerTraits(rolls_back=False)
NO_CACHE = ServerTraits(own_cache=False)
RECURRENT_NO_CACHE = ServerTraits(own_cache=False, rolls_back=False)
WINDOW = ServerTraits(window=True, rolls_back=False)
WINDOW_NO_CACHE = ServerTraits(own_cache=False, window=True, rolls_back=False)
LONG = MIN_TOKENS * 4
ROW = re.compile(r"^\| +(\d+) \|", re.MULTILINE)

_rows: set[int] = set()


def row(*numbers: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Which rows of the table a test is about."""
    _rows.update(numbers)
    return lambda test: test


def slot(number: int = 0, tokens: int = 0, *, busy: bool = False) -> Slot:
    return Slot(number, busy, task=number + 1, tokens=tokens)


def view(number: int = 0, tokens: int = 0, *, on_disk: array[int] | None = None, busy: bool = False) -> SlotView:
    return SlotView(slot(number, len(on_disk) if on_disk is not None else tokens, busy=busy), on_disk)


def state(name: str, kind: StateKind = "conversation", tokens: int = LONG) -> StoredState:
    return StoredState(name, kind, name, "fingerprint", "model", tokens, 1, name, 0.0)


def prompt(*parts: tuple[int, int]) -> array[int]:
    """(token, how many of it) one after the other."""
    return array("I", [token for token, count in parts for _ in range(count)])


def arrived(server: ServerTraits = DENSE, *slots: Slot, **more: Any) -> seen.SlotsAppeared:
    return seen.SlotsAppeared(server, slots or (slot(),), **more)


def restored_in_turn(appeared: seen.SlotsAppeared, usable: Callable[[StoredState], bool]) -> list[Action]:
    """All actions of a server's arrival, when exactly the usable states can be restored."""
    done: list[Action] = []
    actions = decide(appeared)
    while actions and isinstance(fill := actions[0], do.FillSlot):
        done.append(fill)
        appeared = replace(appeared, results=(*appeared.results, usable(fill.state)))
        actions = decide(appeared)
    return done + actions


def everything(_: StoredState) -> bool:
    return True


def nothing(_: StoredState) -> bool:
    return False


class TestAServerAppears:
    NEW, OLD, PREFIX, PREFIX2 = state("new"), state("old"), state("prefix", "prefix"), state("prefix2", "prefix")

    @row(1)
    def test_its_empty_slots_are_filled_from_what_is_on_disk(self) -> None:
        assert decide(arrived(DENSE, slot(0), slot(1))) == [do.LookUpStates()]

    @row(1)
    def test_the_last_conversation_comes_first_then_the_last_prefix_then_by_age(self) -> None:
        by_age = (self.PREFIX2, self.NEW, self.PREFIX, self.OLD)
        slots = [slot(number) for number in range(6)]
        assert restored_in_turn(arrived(DENSE, *slots, states=by_age), everything) == [
            do.FillSlot(number, state) for number, state in enumerate((self.NEW, self.PREFIX2, self.PREFIX, self.OLD))
        ]

    @row(1, 6)
    def test_with_one_slot_the_conversation_takes_it_and_the_prefix_is_compared_ahead(self) -> None:
        appeared = arrived(DENSE, slot(0), states=(self.PREFIX, self.NEW))
        assert restored_in_turn(appeared, everything) == [do.FillSlot(0, self.NEW), do.CompareAhead(self.PREFIX)]

    @row(6)
    def test_a_left_over_conversation_is_not_compared_ahead(self) -> None:
        appeared = arrived(DENSE, slot(0), states=(self.NEW, self.OLD))
        assert restored_in_turn(appeared, everything) == [do.FillSlot(0, self.NEW)]

    @row(1, 2)
    def test_a_state_that_cannot_be_restored_leaves_its_slot_to_the_next_one(self) -> None:
        appeared = arrived(DENSE, slot(0), slot(1), states=(self.NEW, self.PREFIX, self.OLD))
        assert restored_in_turn(appeared, lambda state: state is not self.NEW) == [
            do.FillSlot(0, self.NEW), do.FillSlot(0, self.PREFIX), do.FillSlot(1, self.OLD),
        ]  # fmt: skip

    @row(2, 3)
    def test_when_every_state_fails_the_last_prefix_is_wanted(self) -> None:
        appeared = arrived(DENSE, slot(0), states=(self.NEW, self.PREFIX))
        assert restored_in_turn(appeared, nothing) == [
            do.FillSlot(0, self.NEW), do.FillSlot(0, self.PREFIX), do.ShowCold(), do.WantLastPrefix(),
        ]  # fmt: skip

    @row(3)
    def test_without_any_state_the_last_prefix_is_wanted(self) -> None:
        assert decide(arrived(states=())) == [do.ShowCold(), do.WantLastPrefix()]

    @row(4)
    @pytest.mark.parametrize("server", [DENSE, RECURRENT, NO_CACHE, WINDOW])
    def test_slots_in_use_are_left_alone_and_count_as_warm(self, server: ServerTraits) -> None:
        assert decide(arrived(server, slot(0, 5), slot(1, LONG))) == [do.ShowWarm(LONG)]

    @row(4)
    def test_slots_with_next_to_nothing_in_them_are_left_alone_and_count_as_cold(self) -> None:
        assert decide(arrived(DENSE, slot(0, MIN_TOKENS - 1))) == [do.ShowCold()]
        assert decide(arrived(DENSE, slot(0, MIN_TOKENS))) == [do.ShowWarm(MIN_TOKENS)]

    @row(4, 5)
    def test_what_a_health_check_left_in_them_is_overwritten(self) -> None:
        appeared = arrived(DENSE, slot(0, LONG), overwrite=True)
        assert decide(appeared) == [do.LookUpStates()]
        assert decide(replace(appeared, states=(self.NEW,))) == [do.FillSlot(0, self.NEW)]

    @row(5, 8)
    def test_a_window_gets_nothing_back_after_a_health_check_either(self) -> None:
        appeared = arrived(WINDOW, slot(0, LONG), overwrite=True, states=(self.NEW, self.PREFIX))
        assert decide(appeared) == [do.ShowCold(), do.WantLastPrefix()]

    @row(1, 8)
    def test_no_state_is_restored_into_a_sliding_window_nor_compared_ahead(self) -> None:
        assert decide(arrived(WINDOW, states=(self.NEW, self.PREFIX))) == [do.ShowCold(), do.WantLastPrefix()]

    @row(1)
    @pytest.mark.parametrize("server", [RECURRENT, NO_CACHE])
    def test_recurrent_and_cacheless_servers_are_filled_like_any_other(self, server: ServerTraits) -> None:
        appeared = arrived(server, states=(self.OLD, self.PREFIX))
        assert restored_in_turn(appeared, everything) == [do.FillSlot(0, self.OLD), do.CompareAhead(self.PREFIX)]


class TestAServerIsLookedAt:
    @row(7)
    def test_one_that_is_gone_is_forgotten(self) -> None:
        assert decide(seen.ServerLookedAt(None, "a")) == [do.ForgetServer()]

    @row(1, 7)
    def test_another_process_in_its_place_is_adopted(self) -> None:
        assert decide(seen.ServerLookedAt("b", "a")) == [do.AdoptServer()]
        assert decide(seen.ServerLookedAt("a", None)) == [do.AdoptServer()]

    @row(7)
    @pytest.mark.parametrize("marker", ["a", None])
    def test_the_same_process_or_none_as_before_changes_nothing(self, marker: str | None) -> None:
        assert decide(seen.ServerLookedAt(marker, marker)) == []

    @row(22)
    def test_once_a_second_unless_a_request_is_under_way(self) -> None:
        assert decide(seen.ClockTicks(0)) == [do.LookAtServer(), do.ConsiderWarmUp()]
        assert decide(seen.ClockTicks(1)) == []

    @row(5, 22)
    def test_and_not_while_an_up_measures(self) -> None:
        assert decide(seen.ClockTicks(0, up_age_s=3.0)) == []
        assert decide(seen.ClockTicks(0, up_age_s=DEPLOYING_S)) == [do.LookAtServer(), do.ConsiderWarmUp()]


class TestASideCall:
    @row(9)
    @pytest.mark.parametrize("server", [DENSE, RECURRENT, None])
    def test_stops_a_warm_up_and_is_sent(self, server: ServerTraits | None) -> None:
        assert decide(seen.RequestArrived(server, MIN_BYTES - 1)) == [do.StopWarmUp()]

    @row(9, 11)
    def test_stops_a_warm_up_even_of_a_prefix_that_would_be_its_own(self) -> None:
        assert decide(seen.RequestArrived(DENSE, MIN_BYTES - 1, warming=True)) == [do.StopWarmUp()]

    @row(9, 10)
    def test_makes_room_first_where_the_server_keeps_nothing_beside_its_slots(self) -> None:
        assert decide(seen.RequestArrived(NO_CACHE, 0)) == [
            do.StopWarmUp(), do.MakeRoom(), do.CountAsLatest(none=True),
        ]  # fmt: skip

    @row(8, 10)
    def test_makes_no_room_in_a_sliding_window(self) -> None:
        assert decide(seen.RequestArrived(WINDOW_NO_CACHE, 0)) == [do.StopWarmUp()]

    @row(10)
    def test_room_is_made_by_saving_what_is_worth_it_and_not_on_disk(self) -> None:
        slots = (view(0, LONG), view(1, MIN_TOKENS - 1), view(2, on_disk=prompt((1, LONG))), view(3, MIN_TOKENS))
        assert decide(seen.RoomNeeded(slots, "main|key")) == [do.SaveSlot(0, "main|key"), do.SaveSlot(3, "main|key")]

    @row(10)
    def test_what_has_no_conversation_is_saved_under_its_slot(self) -> None:
        assert decide(seen.RoomNeeded((view(1, LONG),))) == [do.SaveSlot(1, "slot 1")]

    @row(10, 13)
    def test_afterwards_the_conversation_before_it_is_not_taken_for_granted(self) -> None:
        """CountAsLatest(none=True) of row 10 makes `latest` false."""
        assert not policy.server_has(NO_CACHE, seen=True, latest=False)


class TestARequest:
    @row(11)
    def test_waits_for_its_own_prefix(self) -> None:
        assert decide(seen.RequestArrived(DENSE, MIN_BYTES, warming=True)) == [
            do.AwaitWarmUp(), do.LookUpConversation(), do.CountAsLatest(),
        ]  # fmt: skip

    @row(12)
    @pytest.mark.parametrize("server", [DENSE, NO_CACHE, WINDOW, None])
    def test_stops_the_computing_of_another_prefix(self, server: ServerTraits | None) -> None:
        assert decide(seen.RequestArrived(server, MIN_BYTES)) == [
            do.StopWarmUp(), do.LookUpConversation(), do.CountAsLatest(),
        ]  # fmt: skip

    @row(13)
    @pytest.mark.parametrize(
        ("server", "answered", "latest", "has"),
        [
            (DENSE, True, True, True), (DENSE, True, False, True), (DENSE, False, True, False),
            (RECURRENT, True, False, True), (WINDOW, True, False, True),
            (NO_CACHE, True, True, True), (NO_CACHE, True, False, False), (NO_CACHE, False, True, False),
            (None, False, False, True), (None, True, True, True),
        ],
    )  # fmt: skip
    def test_is_sent_when_the_server_has_its_conversation(
        self, server: ServerTraits | None, answered: bool, latest: bool, has: bool
    ) -> None:
        looked_up = seen.ConversationLookedUp(server, answered, latest, looked=10.0, changing=False)
        assert decide(looked_up, now=10.0) == ([] if has else [do.ProvidePrefix()])

    LOOK_AGAIN = (do.LookAtServer(), do.LookUpConversation(looked=True))

    @row(19)
    def test_an_old_look_at_the_server_is_made_again_first(self) -> None:
        looked_up = seen.ConversationLookedUp(DENSE, False, False, looked=10.0, changing=False)
        assert decide(looked_up, now=10.0 + FRESH_S) == [do.ProvidePrefix()]
        assert decide(looked_up, now=10.1 + FRESH_S) == list(self.LOOK_AGAIN)

    @row(13, 19)
    def test_a_known_conversation_looks_too_for_its_server_may_be_another_process_now(self) -> None:
        looked_up = seen.ConversationLookedUp(DENSE, True, True, looked=0.0, changing=False)
        assert decide(looked_up, now=9.0) == list(self.LOOK_AGAIN)

    @row(13, 19)
    def test_a_known_conversation_does_not_wait_while_slots_change_for_another_one(self) -> None:
        looked_up = seen.ConversationLookedUp(DENSE, True, False, looked=0.0, changing=True)
        assert decide(looked_up, now=9.0) == []

    @row(13, 19)
    def test_without_a_cache_only_the_latest_conversation_need_not_wait_for_that(self) -> None:
        looked_up = seen.ConversationLookedUp(NO_CACHE, True, True, looked=0.0, changing=True)
        assert decide(looked_up, now=9.0) == []
        assert decide(replace(looked_up, latest=False), now=9.0) == list(self.LOOK_AGAIN)

    @row(19)
    def test_a_new_conversation_waits_while_slots_change(self) -> None:
        looked_up = seen.ConversationLookedUp(DENSE, False, False, looked=0.0, changing=True)
        assert decide(looked_up, now=9.0) == list(self.LOOK_AGAIN)

    @row(20)
    def test_takes_turns_only_where_a_slot_is_all_there_is(self) -> None:
        for server in (NO_CACHE, RECURRENT_NO_CACHE, WINDOW_NO_CACHE):
            assert policy.one_request_per_slot(server)
        for other in (DENSE, RECURRENT, WINDOW, None):
            assert not policy.one_request_per_slot(other)


class TestANewConversation:
    PROVIDE = (do.AwaitIdleSlots(), do.CountAsHeld())
    COMPARE = (do.CompareStates(), do.LookUpPrefix())

    @row(14)
    def test_of_a_prefix_the_server_has_in_its_cache_is_left_to_the_server(self) -> None:
        for server in (DENSE, RECURRENT):
            assert decide(seen.PrefixNeeded(server, prefix_seen=True)) == [do.CountAsHeld()]

    @row(14)
    def test_of_a_new_prefix_is_provided_for(self) -> None:
        assert decide(seen.PrefixNeeded(DENSE, prefix_seen=False)) == list(self.PROVIDE)

    @row(14)
    def test_without_a_cache_is_provided_for_whatever_the_server_has_seen(self) -> None:
        assert decide(seen.PrefixNeeded(NO_CACHE, prefix_seen=True)) == list(self.PROVIDE)

    @row(8, 14)
    @pytest.mark.parametrize("prefix_seen", [True, False])
    @pytest.mark.parametrize("server", [WINDOW, WINDOW_NO_CACHE])
    def test_in_a_sliding_window_is_left_to_the_server(self, server: ServerTraits, prefix_seen: bool) -> None:
        assert decide(seen.PrefixNeeded(server, prefix_seen)) == [do.CountAsHeld()]

    @row(15)
    def test_the_first_one_saves_what_somebody_else_left_in_the_slots(self) -> None:
        idle = seen.SlotsIdle(DENSE, (view(0, LONG), view(1, 3)), conversations=False)
        assert decide(idle) == [do.SaveSlot(0, "slot 0"), *self.COMPARE]

    @row(15)
    def test_a_later_one_leaves_that_to_the_cache_of_the_server(self) -> None:
        assert decide(seen.SlotsIdle(DENSE, (view(0, LONG),), conversations=True)) == list(self.COMPARE)

    @row(15)
    def test_without_a_cache_each_one_saves_what_is_not_on_disk(self) -> None:
        slots = (view(0, LONG), view(1, on_disk=prompt((1, LONG))))
        idle = seen.SlotsIdle(NO_CACHE, slots, conversations=True, latest="main|key")
        assert decide(idle) == [do.SaveSlot(0, "main|key"), *self.COMPARE]


class TestASavedState:
    """Row 16: `best` is worth restoring when it saves MIN_TOKENS more than what a slot holds."""

    ASKED = prompt((1, LONG), (2, 50))
    PREFIX = (state("prefix", "prefix"), prompt((1, LONG)))

    def compared(self, *states: tuple[StoredState, array[int]], slots: tuple[SlotView, ...] = (view(),),
                 server: ServerTraits = DENSE, latest: str = "") -> list[Action]:  # fmt: skip
        return decide(seen.StatesCompared(server, slots, states, self.ASKED, latest))

    @row(16)
    def test_that_helps_is_restored(self) -> None:
        assert self.compared(self.PREFIX) == [do.RestoreState(0, self.PREFIX[0])]

    @row(16)
    def test_that_helps_most_is_chosen(self) -> None:
        longer = (state("longer"), prompt((1, LONG), (2, 20)))
        for states in ((self.PREFIX, longer), (longer, self.PREFIX)):
            assert self.compared(*states) == [do.RestoreState(0, longer[0])]

    @row(16)
    def test_used_last_is_chosen_of_two_that_help_as_much(self) -> None:
        other = (state("other"), prompt((1, LONG), (9, 9)))
        assert self.compared(other, self.PREFIX) == [do.RestoreState(0, other[0])]

    @row(16)
    def test_that_saves_too_little_is_left_where_it_is(self) -> None:
        short = (state("short"), prompt((1, MIN_TOKENS - 1)))
        enough = (state("enough"), prompt((1, MIN_TOKENS)))
        assert self.compared(short, (state("else"), prompt((7, LONG)))) == []
        assert self.compared(enough) == [do.RestoreState(0, enough[0])]

    @row(16)
    @pytest.mark.parametrize(("missing", "restored"), [(MIN_TOKENS - 1, False), (MIN_TOKENS, True)])
    def test_must_save_more_than_what_a_slot_holds(self, missing: int, restored: bool) -> None:
        held = view(0, on_disk=prompt((1, LONG - missing)))
        assert bool(self.compared(self.PREFIX, slots=(held,))) is restored

    @row(16)
    def test_is_not_restored_when_any_slot_holds_as_much(self) -> None:
        assert self.compared(self.PREFIX, slots=(view(0), view(1, on_disk=self.PREFIX[1]))) == []

    @row(16)
    def test_goes_into_the_slot_that_holds_least(self) -> None:
        slots = (view(0, on_disk=prompt((8, 900))), view(1, on_disk=prompt((9, 500))))
        assert self.compared(self.PREFIX, slots=slots) == [do.RestoreState(1, self.PREFIX[0])]

    @row(15, 16)
    def test_goes_in_after_what_was_there_is_saved(self) -> None:
        assert self.compared(self.PREFIX, slots=(view(0, LONG),), latest="main|key") == [
            do.SaveSlot(0, "main|key"), do.RestoreState(0, self.PREFIX[0]),
        ]  # fmt: skip

    @row(16)
    def test_of_a_recurrent_model_helps_at_its_very_end_only(self) -> None:
        beyond = (state("beyond"), prompt((1, LONG), (3, 1)))
        assert self.compared(beyond) == [do.RestoreState(0, beyond[0])]
        assert self.compared(beyond, server=RECURRENT) == []
        assert self.compared(beyond, self.PREFIX, server=RECURRENT) == [do.RestoreState(0, self.PREFIX[0])]

    @row(16)
    def test_of_a_recurrent_model_is_needed_even_beside_a_slot_that_went_further(self) -> None:
        further = view(0, on_disk=prompt((1, LONG), (3, 100)))
        assert self.compared(self.PREFIX, slots=(further,)) == []
        assert self.compared(self.PREFIX, slots=(further,), server=RECURRENT) == [do.RestoreState(0, self.PREFIX[0])]

    @row(16)
    def test_is_not_needed_when_there_is_none(self) -> None:
        assert self.compared() == []


class TestAPrefix:
    UNKNOWN = seen.PrefixLookedUp(stored=False, tokens=None, context=LONG * 2, for_request=True)

    @row(17)
    def test_on_disk_is_not_computed_again(self) -> None:
        for waited_for in (True, False):
            assert decide(replace(self.UNKNOWN, stored=True, for_request=waited_for)) == []

    @row(17)
    def test_that_is_new_has_its_boundary_found(self) -> None:
        assert decide(self.UNKNOWN) == [do.FindBoundary()]

    @row(16, 17)
    def test_of_a_request_is_computed_and_then_states_are_compared_once_more(self) -> None:
        assert decide(replace(self.UNKNOWN, tokens=LONG)) == [
            do.ComputePrefix(), do.AwaitIdleSlots(again=True), do.CompareStates(),
        ]  # fmt: skip

    @row(17, 21)
    def test_of_a_warm_up_is_computed_and_stays_in_its_slot(self) -> None:
        assert decide(replace(self.UNKNOWN, tokens=LONG, for_request=False)) == [do.ComputePrefix()]

    @row(18)
    @pytest.mark.parametrize(
        ("tokens", "context", "computed"),
        [(MIN_TOKENS - 1, LONG, False), (MIN_TOKENS, LONG, True), (LONG - 1, LONG, True), (LONG, LONG, False),
         (LONG, 0, False)],
    )  # fmt: skip
    def test_too_short_or_as_long_as_the_context_is_not_computed(
        self, tokens: int, context: int, computed: bool
    ) -> None:
        for waited_for in (True, False):
            found = seen.PrefixLookedUp(False, tokens, context, waited_for)
            assert (do.ComputePrefix() in decide(found)) is computed


class TestAWantedPrefix:
    DUE = seen.WarmUpDue(DENSE, wanted=True, in_flight=0, warming=False, quiet_since=10.0, busy=False)
    NOW = 10.0 + QUIET_S

    @row(21)
    def test_is_computed_when_it_has_been_quiet_for_a_while(self) -> None:
        assert decide(self.DUE, self.NOW) == [do.StartWarmUp()]
        assert decide(self.DUE, self.NOW - 0.01) == []

    @row(21)
    def test_waits_for_a_look_whether_somebody_asks_the_server_without_us(self) -> None:
        assert decide(replace(self.DUE, busy=None), self.NOW) == [do.LookForBusySlots()]

    @row(22)
    @pytest.mark.parametrize(
        "change",
        [{"in_flight": 1}, {"warming": True}, {"busy": True}, {"up_age_s": 3.0}, {"wanted": False}, {"server": None}],
        ids=str,
    )
    def test_is_not_computed_yet(self, change: dict[str, Any]) -> None:
        assert decide(replace(self.DUE, **change), self.NOW) == []

    @row(21, 22)
    def test_does_not_wait_for_an_up_that_was_cut_off_long_ago(self) -> None:
        assert decide(replace(self.DUE, up_age_s=DEPLOYING_S - 1), self.NOW) == []
        assert decide(replace(self.DUE, up_age_s=DEPLOYING_S), self.NOW) == [do.StartWarmUp()]

    @row(22, 23)
    def test_is_computed_at_once_when_that_up_asks_for_it_itself(self) -> None:
        due = replace(self.DUE, up_age_s=3.0, busy=None, quiet_since=self.NOW, at_once=True)
        assert decide(due, self.NOW) == [do.StartWarmUp()]

    @row(22, 23)
    @pytest.mark.parametrize("change", [{"in_flight": 1}, {"warming": True}, {"wanted": False}], ids=str)
    def test_is_not_computed_at_once_beside_a_request_or_twice(self, change: dict[str, Any]) -> None:
        assert decide(replace(self.DUE, at_once=True, **change), self.NOW) == []

    @row(8, 21, 23)
    @pytest.mark.parametrize("at_once", [True, False])
    def test_is_never_computed_in_a_sliding_window(self, at_once: bool) -> None:
        assert decide(replace(self.DUE, server=WINDOW, at_once=at_once), self.NOW) == []

    @row(12, 24)
    def test_is_still_wanted_when_a_request_stopped_its_computing(self) -> None:
        assert decide(seen.WarmUpEnded("stopped")) == []

    @row(24)
    def test_is_wanted_no_more_when_it_is_there_or_cannot_be(self) -> None:
        failed = decide(seen.WarmUpEnded("failed", WARM_UP_TRIES))
        assert decide(seen.WarmUpEnded("computed")) == failed == [do.DropWanted()]

    @row(24, 25)
    def test_is_still_wanted_when_its_first_try_failed(self) -> None:
        assert decide(seen.WarmUpEnded("failed", 1)) == []

    @row(21, 25)
    def test_is_tried_once_more_when_some_time_has_passed(self) -> None:
        due = replace(self.DUE, failed_at=self.NOW)
        assert decide(due, self.NOW + RETRY_S - 0.01) == []
        assert decide(due, self.NOW + RETRY_S) == [do.StartWarmUp()]

    @row(23, 25)
    def test_is_tried_at_once_when_an_up_asks_for_it_itself(self) -> None:
        assert decide(replace(self.DUE, failed_at=self.NOW, at_once=True), self.NOW) == [do.StartWarmUp()]


class TestTheStackStops:
    @row(26)
    def test_slots_are_listed_then_saved_and_what_is_on_disk_counts_as_used(self) -> None:
        assert decide(seen.StackStops(DENSE)) == [do.ListSlots()]
        slots = (view(0, LONG), view(1, on_disk=prompt((1, LONG))))
        assert decide(seen.StackStops(DENSE, slots)) == [
            do.SaveSlot(0, "slot 0"), do.CountAsSaved(0), do.CountAsSaved(1),
        ]  # fmt: skip

    @row(26)
    def test_busy_slots_and_those_with_next_to_nothing_in_them_are_left_out(self) -> None:
        slots = (view(0, LONG, busy=True), view(1, MIN_TOKENS - 1), view(2))
        assert decide(seen.StackStops(NO_CACHE, slots)) == []

    @row(8, 26)
    @pytest.mark.parametrize("server", [WINDOW, WINDOW_NO_CACHE, None])
    def test_a_sliding_window_or_no_server_has_nothing_to_save(self, server: ServerTraits | None) -> None:
        assert decide(seen.StackStops(server)) == []


class TestAServerThatDied:
    DIES = ServerTraits(dies_on_states=True)

    @row(17, 21, 27)
    @pytest.mark.parametrize("for_request", [True, False])
    def test_is_not_given_the_prefix_it_died_on_again(self, for_request: bool) -> None:
        looked = seen.PrefixLookedUp(False, LONG, LONG * 2, for_request, deadly=True)
        assert decide(looked) == []
        assert do.ComputePrefix() in decide(replace(looked, deadly=False))

    @row(1, 3, 28)
    def test_is_given_no_state_when_it_died_on_two(self) -> None:
        appeared = seen.SlotsAppeared(self.DIES, (slot(),), states=(state("a"), state("b", "prefix")))
        assert not [action for action in decide(appeared) if isinstance(action, (do.FillSlot, do.CompareAhead))]

    @row(8, 10, 14, 21, 26, 28)
    def test_saves_and_computes_nothing_then(self) -> None:
        assert decide(seen.PrefixNeeded(self.DIES, prefix_seen=False)) == [do.CountAsHeld()]
        no_cache = replace(self.DIES, own_cache=False)
        assert decide(seen.RequestArrived(no_cache, 0)) == [do.StopWarmUp()]
        assert decide(seen.StackStops(self.DIES)) == []
        due = seen.WarmUpDue(self.DIES, wanted=True, in_flight=0, warming=False, quiet_since=0.0)
        assert decide(due, 1000.0) == []


def test_every_row_of_the_table_has_a_test() -> None:
    numbers = [int(number) for number in ROW.findall(policy.__doc__ or "")]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 25
    assert _rows == set(numbers)
