"""What the policy is told: facts as the manager finds them, each of them about one moment."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Literal

from llmstack.warmstart.interface import Slot
from llmstack.warmstart.store import StoredState


@dataclass(frozen=True, slots=True)
class ServerTraits:
    """own_cache: the server keeps prompts that left its slots (-cram is not 0; server_prompt_cache). window: it keeps a
    sliding window only, and no points to return to in what it saves. rolls_back: a state can be cut to any shorter
    prompt, or to a checkpoint of it; a recurrent one without them cannot. dies_on_states:
    processes of it ended while one was saved or restored."""

    own_cache: bool = True
    window: bool = False
    rolls_back: bool = True
    dies_on_states: bool = False

    @property
    def left_alone(self) -> bool:
        return self.window or self.dies_on_states


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot, and the tokens it holds when they are on disk too; None: nobody knows them, or they are not."""

    slot: Slot
    contents: array[int] | None = None


@dataclass(frozen=True, slots=True)
class ClockTicks:
    """Once a second. in_flight: requests between their arrival and the end of their answers. up_age_s: how long an `up`
    has been at work, None when none is."""

    in_flight: int
    up_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerLookedAt:
    """answering: the marker of the process that answers, None when there is no server. current: that of the process
    whose slots are known, None when there is none."""

    answering: str | None
    current: str | None


@dataclass(frozen=True, slots=True)
class SlotsAppeared:
    """The slots of a server that is new to us. overwrite: a health check has used them.

    states: what it may restore, the last used first; None: not looked up yet. results: of each attempt to restore one.
    """

    server: ServerTraits
    slots: tuple[Slot, ...]
    overwrite: bool = False
    states: tuple[StoredState, ...] | None = None
    results: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """server: None when no server is known. prefix_bytes: of system text and tools. warming: its own prefix is being
    computed in the background."""

    server: ServerTraits | None
    prefix_bytes: int
    warming: bool = False


@dataclass(frozen=True, slots=True)
class ConversationLookedUp:
    """seen: this process of the server has answered this conversation. latest: nobody was answered since.

    looked: when the server was looked at last. changing: slots are being saved, restored or computed now.
    """

    server: ServerTraits | None
    seen: bool
    latest: bool
    looked: float
    changing: bool


@dataclass(frozen=True, slots=True)
class PrefixNeeded:
    """Of a conversation that the server does not have. prefix_seen: this process has computed its prefix once."""

    server: ServerTraits
    prefix_seen: bool


@dataclass(frozen=True, slots=True)
class SlotsIdle:
    """Those that are not busy. conversations: this process has answered one. latest: the name of the last one."""

    server: ServerTraits
    slots: tuple[SlotView, ...]
    conversations: bool
    latest: str = ""


@dataclass(frozen=True, slots=True)
class RoomNeeded:
    """A side call is about to be sent."""

    slots: tuple[SlotView, ...]
    latest: str = ""


@dataclass(frozen=True, slots=True)
class StatesCompared:
    """prompt: the tokens of the request. states: what may be restored, each with its tokens, the last used first."""

    server: ServerTraits
    slots: tuple[SlotView, ...]
    states: tuple[tuple[StoredState, array[int]], ...]
    prompt: array[int]
    latest: str = ""


@dataclass(frozen=True, slots=True)
class PrefixLookedUp:
    """stored: its state is on disk. tokens: its length, None: not looked up yet. context: tokens of one slot.

    for_request: somebody waits for it. deadly: processes of the server ended over it.
    """

    stored: bool
    tokens: int | None
    context: int
    for_request: bool
    deadly: bool = False


@dataclass(frozen=True, slots=True)
class WarmUpDue:
    """May the wanted prefix be computed? quiet_since: when the last answer ended. up_age_s: how long an `up` has been
    at work, None when none is. busy: a slot is at work, None: not looked up yet. at_once: `up` asks for it itself.
    failed_at: when the last try to compute it failed, None when none has."""

    server: ServerTraits | None
    wanted: bool
    in_flight: int
    warming: bool
    quiet_since: float
    up_age_s: float | None = None
    busy: bool | None = None
    at_once: bool = False
    failed_at: float | None = None


@dataclass(frozen=True, slots=True)
class WarmUpEnded:
    """failures: how many tries at this prefix have failed, this one included."""

    outcome: Literal["computed", "stopped", "failed"]
    failures: int = 0


@dataclass(frozen=True, slots=True)
class StackStops:
    """slots: None: not looked up yet."""

    server: ServerTraits | None
    slots: tuple[SlotView, ...] | None = None


Observation = (
    ClockTicks | ServerLookedAt | SlotsAppeared | RequestArrived | ConversationLookedUp | PrefixNeeded | SlotsIdle
    | RoomNeeded | StatesCompared | PrefixLookedUp | WarmUpDue | WarmUpEnded | StackStops
)  # fmt: skip
