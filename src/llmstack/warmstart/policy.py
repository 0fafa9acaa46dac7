"""When states are saved, restored and computed: every decision of the warm start, and nothing else.

`decide(observation, now)` gives the actions that follow from what was observed, in their order. It asks nobody, waits
for nothing, reads no clock, file or log; manager.py alone observes and acts. Some actions are looks: what they find is
the next observation, and its actions come before the rest.

|  # | what is observed                                      | what follows                                            |
| -- | ----------------------------------------------------- | ------------------------------------------------------- |
|    | **a server**                                          |                                                         |
|  1 | one appears whose slots are empty                     | the last conversation's state is restored, the last     |
|    |                                                       | prefix's, then others by age, one into each slot        |
|  2 | a state cannot be restored                            | the next one is tried for the same slot                 |
|  3 | no state could be restored                            | the last known prefix is wanted (21)                    |
|  4 | one appears whose slots are in use                    | nothing is restored; it is warm from MIN_TOKENS on      |
|  5 | while an `up` measures                                | it is looked at when `up` asks for it, or a request     |
|    |                                                       | comes; then slots that `up` has used count as empty     |
|  6 | slots are full, and a prefix's state is left          | its bytes are compared before somebody waits for that   |
|  7 | it is gone, or another process answers in its place   | all that its slots held is forgotten, a warm-up stops   |
|  8 | it keeps a sliding window only, and its files no      | nothing is saved, restored or computed                  |
|    | checkpoints (before build 11506)                      |                                                         |
|    | **a request**                                         |                                                         |
|  9 | a side call (short system text and tools)             | a warm-up stops                                         |
| 10 | ... and the server has no cache of its own            | what idle slots hold is saved; none counts as latest    |
| 11 | its prefix is being computed                          | it waits for that                                       |
| 12 | another prefix is being computed                      | that stops                                              |
| 13 | the server still has its conversation                 | it is sent                                              |
| 14 | the server has its prefix, and a cache of its own     | it is sent                                              |
| 15 | the first conversation of a server, or any new one    | what idle slots hold is saved: its file says what it is |
|    | when the server has no cache of its own               |                                                         |
| 16 | a state saves MIN_TOKENS more than any idle slot      | it is restored into the slot that holds least; what is  |
|    |                                                       | in there is saved first                                 |
| 17 | no state of its prefix is on disk                     | the prefix is computed to its end, saved; then 16 again |
| 18 | ... but it is short, or as long as the context        | it is not computed                                      |
| 19 | the last look at the server is too old                | looks again, unless slots change and it is in one       |
| 20 | more requests than slots, and no cache of its own     | the others wait                                         |
|    | **quiet**                                             |                                                         |
| 21 | a prefix is wanted, nobody asks anything              | it is computed in the background (17), and saved        |
| 22 | ... a request, a busy slot, an `up` that measures     | not yet                                                 |
| 23 | ... and `up` has just restored what there was         | at once                                                 |
| 24 | the computing was stopped, or has failed              | goes on later, or is wanted no more                     |
| 25 | ... and failed for the first time                     | it is tried once more, RETRY_S later                    |
|    | **the end**                                           |                                                         |
| 26 | the stack stops                                       | what idle slots hold is saved; what is on disk already  |
|    |                                                       | counts as used now                                      |
|    | **a server that died**                                |                                                         |
| 27 | ... twice over a prefix                               | that prefix is not computed                             |
| 28 | ... twice over a state, whichever                     | as row 8                                                |

A new rule is a row here, a branch below, and a test in tests/unit/warmstart/test_policy.py that names its row.

llama.cpp's functions are those of tools/server/server-context.cpp, build 11434.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from llmstack.warmstart import actions as do
from llmstack.warmstart import observations as seen
from llmstack.warmstart.actions import Action
from llmstack.warmstart.observations import Observation, ServerTraits, SlotView
from llmstack.warmstart.prefix import MIN_BYTES, MIN_TOKENS, reusable
from llmstack.warmstart.store import StoredState

FRESH_S = 0.2  # a look at the server is good for so long: no server that died is back sooner
QUIET_S = 1.0  # without a request; then an interrupted warm-up goes on
DEPLOYING_S = 900.0  # the transaction of an older `up` was cut off
RETRY_S = 30.0  # what made a prefill fail (a slot taken by somebody else, a full disk) may be over by then
WARM_UP_TRIES = 2


def decide(observation: Observation, now: float = 0.0) -> list[Action]:
    """What follows, in this order. now: seconds, of the clock that the observation's times are of."""
    match observation:
        case seen.ClockTicks():
            return _tick(observation)
        case seen.ServerLookedAt():
            return _server(observation)
        case seen.SlotsAppeared():
            return _fill(observation)
        case seen.RequestArrived():
            return _request(observation)
        case seen.ConversationLookedUp():
            return _conversation(observation, now)
        case seen.PrefixNeeded():
            return _prefix(observation)
        case seen.SlotsIdle():
            return _idle(observation)
        case seen.RoomNeeded():
            return _saves(observation.slots, observation.latest)
        case seen.StatesCompared():
            return _bring_back(observation)
        case seen.PrefixLookedUp():
            return _compute(observation)
        case seen.WarmUpDue():
            return _warm_up(observation, now)
        case seen.WarmUpEnded():
            again = observation.outcome == "failed" and observation.failures < WARM_UP_TRIES
            return [] if observation.outcome == "stopped" or again else [do.DropWanted()]  # 24, 25
        case seen.StackStops():
            return _stop(observation)
        case _:
            assert_never(observation)


# ---- a server ---------------------------------------------------------------------------------------------------


def _tick(observation: seen.ClockTicks) -> list[Action]:
    """A request looks at the server itself, and what a look changes would come in its way (22). 5: a state restored
    between the two prompts of a health check would take the first one's place, and its cache would seem not to hold."""
    if observation.in_flight or _measuring(observation.up_age_s):
        return []
    return [do.LookAtServer(), do.ConsiderWarmUp()]


def _measuring(up_age_s: float | None) -> bool:
    return up_age_s is not None and up_age_s < DEPLOYING_S


def _server(observation: seen.ServerLookedAt) -> list[Action]:
    if observation.answering == observation.current:
        return []
    if observation.answering is None:
        return [do.ForgetServer()]  # 7
    return [do.AdoptServer()]  # 1, 7: media_marker is random per process (server-common.cpp: get_media_marker)


def _fill(observation: seen.SlotsAppeared) -> list[Action]:
    slots, results = observation.slots, observation.results
    if observation.states is None:
        held = max((slot.tokens for slot in slots), default=0)
        if held and not observation.overwrite:  # 4: the proxy was restarted, the server was not
            return [do.ShowWarm(held) if held >= MIN_TOKENS else do.ShowCold()]
        return [do.LookUpStates()]  # 1, 5
    order = fill_order(observation.states, observation.server)
    filled, tried = sum(results), len(results)
    if filled < len(slots) and tried < len(order):
        return [do.FillSlot(slots[filled].number, order[tried])]  # 1; 2: a slot goes on as long as nothing came back
    # 6: the next new conversation wants the prefix at its very end, and a digest reads the whole file.
    left_over = next((state for state in order[tried:] if state.kind == "prefix"), None)
    ahead: list[Action] = [do.CompareAhead(left_over)] if left_over is not None else []
    return ahead if filled else [*ahead, do.ShowCold(), do.WantLastPrefix()]  # 3


def fill_order(states: Iterable[StoredState], server: ServerTraits) -> list[StoredState]:
    """Row 1: the last conversation, the last prefix, then by age. states: the last used first."""
    if server.left_alone:
        # 8, 28: update_slots reads such a prompt anew ("lack of cache data"): of the cells that a window still has, the
        # first one lies behind pos_min_thold, and the checkpoints that would help are not in the file.
        return []
    by_age = list(states)
    leading = [next((state for state in by_age if state.kind == kind), None) for kind in ("conversation", "prefix")]
    first = [state for state in leading if state is not None]
    return [*first, *(state for state in by_age if state not in first)]


# ---- a request --------------------------------------------------------------------------------------------------


def _request(observation: seen.RequestArrived) -> list[Action]:
    server = observation.server
    if observation.prefix_bytes < MIN_BYTES:
        if server is None or server.own_cache or server.left_alone:
            return [do.StopWarmUp()]  # 9: the client waits for a title; a warm-up has no deadline
        # 10: get_available_slot gives it the least recently used slot, and without a prompt cache prompt_save keeps
        # nothing of that slot (llama.cpp#22746).
        return [do.StopWarmUp(), do.MakeRoom(), do.CountAsLatest(none=True)]
    # 11: sent now, it would wait in the server's queue for the same tokens. 12: else it would wait for others.
    first = do.AwaitWarmUp() if observation.warming else do.StopWarmUp()
    return [first, do.LookUpConversation(), do.CountAsLatest()]


def _conversation(observation: seen.ConversationLookedUp, now: float) -> list[Action]:
    has = server_has(observation.server, seen=observation.seen, latest=observation.latest)
    # 19: a request of a conversation in a slot need not wait until another one's prefix is computed.
    if now - observation.looked > FRESH_S and not (has and observation.changing):
        return [do.LookAtServer(), do.LookUpConversation(looked=True)]
    return [] if has else [do.ProvidePrefix()]  # 13


def server_has(server: ServerTraits | None, *, seen: bool, latest: bool) -> bool:
    """Row 13: whether a conversation is in a slot or in the server's own cache. Without a server nothing can be done.

    With a cache it keeps every prompt that leaves a slot (prompt_save), up to -cram; what falls out of that is old.
    Without one a slot may hold anything once another conversation has come.
    """
    return server is None or (seen and (server.own_cache or latest))


def one_request_per_slot(server: ServerTraits | None) -> bool:
    """Row 20: a request that waits for a slot waits here. In the server's queue (queue_tasks.defer) what is brought
    back for it would be gone before it is sent, because another one takes the slot first."""
    return server is not None and not server.own_cache


def _prefix(observation: seen.PrefixNeeded) -> list[Action]:
    server = observation.server
    if server.left_alone:
        return [do.CountAsHeld()]  # 8: as in fill_order
    if observation.prefix_seen and server.own_cache:
        return [do.CountAsHeld()]  # 14: get_available_slot finds it by what slots and cache hold (prompt_load)
    return [do.AwaitIdleSlots(), do.CountAsHeld()]


def _idle(observation: seen.SlotsIdle) -> list[Action]:
    # 15: somebody filled them before we looked, or they went on since; tokens are known of what is on disk only. With a
    # cache of its own the server keeps them itself from the first conversation on.
    unknown = not (observation.server.own_cache and observation.conversations)
    saves = _saves(observation.slots, observation.latest) if unknown else []
    return [*saves, do.CompareStates(), do.LookUpPrefix()]


def _saves(slots: Iterable[SlotView], name: str) -> list[Action]:
    """Rows 10 and 15: whatever is worth a file and not in one."""
    return [
        do.SaveSlot(view.slot.number, name or f"slot {view.slot.number}")
        for view in slots
        if view.contents is None and view.slot.tokens >= MIN_TOKENS
    ]


def _bring_back(observation: seen.StatesCompared) -> list[Action]:
    """Row 16. Of two states that save as much the one used last is taken."""
    rolls_back, prompt = observation.server.rolls_back, observation.prompt
    # A recurrent state has no cells to drop (llama_memory_recurrent::seq_rm fails), so it helps at its very end only.
    there = (reusable(view.contents, prompt, rolls_back=rolls_back) for view in observation.slots if view.contents)
    most = max(there, default=0) + MIN_TOKENS - 1
    best = None
    for state, tokens in observation.states:
        gain = reusable(tokens, prompt, rolls_back=rolls_back)
        if gain > most:
            best, most = state, gain
    if best is None:
        return []
    view = min(observation.slots, key=lambda view: view.slot.tokens)
    return [*_saves([view], observation.latest), do.RestoreState(view.slot.number, best)]


def _compute(observation: seen.PrefixLookedUp) -> list[Action]:
    if observation.stored or observation.deadly:
        return []  # 27
    if observation.tokens is None:
        return [do.FindBoundary()]
    if not MIN_TOKENS <= observation.tokens < observation.context:
        return []  # 18
    if not observation.for_request:
        return [do.ComputePrefix()]  # 21
    # 17: at its end, because only there every kind of model can use it. The slot it is computed in may have held more
    # of this very conversation (get_available_slot takes the most similar one), so that comes back.
    return [do.ComputePrefix(), do.AwaitIdleSlots(again=True), do.CompareStates()]


# ---- quiet ----------------------------------------------------------------------------------------------------------


def _warm_up(observation: seen.WarmUpDue, now: float) -> list[Action]:
    server = observation.server
    if not observation.wanted or server is None or server.left_alone or observation.in_flight or observation.warming:
        return []  # 8, 22
    if observation.at_once:
        return [do.StartWarmUp()]  # 23
    measuring = _measuring(observation.up_age_s)
    if now - observation.quiet_since < QUIET_S or measuring or observation.busy:
        return []  # 22
    if observation.failed_at is not None and now - observation.failed_at < RETRY_S:
        return []  # 25
    # Somebody may ask the server without us.
    return [do.LookForBusySlots()] if observation.busy is None else [do.StartWarmUp()]  # 21


# ---- the end -------------------------------------------------------------------------------------------------------


def _stop(observation: seen.StackStops) -> list[Action]:
    if observation.server is None or observation.server.left_alone:
        return []  # 8
    if observation.slots is None:
        return [do.ListSlots()]
    chosen: list[Action] = []
    for view in observation.slots:
        if view.slot.busy or view.slot.tokens < MIN_TOKENS:
            continue  # a save waits for a busy slot (SERVER_TASK_TYPE_SLOT_SAVE is deferred), and a stop must not wait
        chosen += [*_saves([view], ""), do.CountAsSaved(view.slot.number)]
    return chosen
