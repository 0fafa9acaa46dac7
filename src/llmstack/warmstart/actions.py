"""What the policy may have done, each with what it leads to: a look ends with the next observation."""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.warmstart.store import StoredState


@dataclass(frozen=True, slots=True)
class LookAtServer:
    """Leads to ServerLookedAt."""


@dataclass(frozen=True, slots=True)
class AdoptServer:
    """The process that answers takes the place of the one before. Leads to SlotsAppeared."""


@dataclass(frozen=True, slots=True)
class ForgetServer:
    pass


@dataclass(frozen=True, slots=True)
class LookUpStates:
    """The slots count as empty. Leads to SlotsAppeared with its states."""


@dataclass(frozen=True, slots=True)
class FillSlot:
    """Leads to SlotsAppeared with one more result."""

    slot: int
    state: StoredState


@dataclass(frozen=True, slots=True)
class CompareAhead:
    """Reads the file of a state in the background, so that its restore need not."""

    state: StoredState


@dataclass(frozen=True, slots=True)
class ShowWarm:
    """For `status`: the slots hold so many tokens that we did not put there."""

    tokens: int


@dataclass(frozen=True, slots=True)
class ShowCold:
    pass


@dataclass(frozen=True, slots=True)
class WantLastPrefix:
    pass


@dataclass(frozen=True, slots=True)
class DropWanted:
    pass


@dataclass(frozen=True, slots=True)
class StopWarmUp:
    pass


@dataclass(frozen=True, slots=True)
class AwaitWarmUp:
    pass


@dataclass(frozen=True, slots=True)
class StartWarmUp:
    pass


@dataclass(frozen=True, slots=True)
class ConsiderWarmUp:
    """Leads to WarmUpDue."""


@dataclass(frozen=True, slots=True)
class LookForBusySlots:
    """Leads to WarmUpDue with an answer."""


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Leads to RoomNeeded."""


@dataclass(frozen=True, slots=True)
class LookUpConversation:
    """Leads to ConversationLookedUp. looked: the server was looked at just now."""

    looked: bool = False


@dataclass(frozen=True, slots=True)
class ProvidePrefix:
    """When nobody changes slots any more and the server still lacks the conversation, leads to PrefixNeeded."""


@dataclass(frozen=True, slots=True)
class CountAsHeld:
    """From now on the server has this prefix and this conversation."""


@dataclass(frozen=True, slots=True)
class CountAsLatest:
    """none: what comes next is no conversation."""

    none: bool = False


@dataclass(frozen=True, slots=True)
class AwaitIdleSlots:
    """Leads to SlotsIdle; again: after something changed, to nothing."""

    again: bool = False


@dataclass(frozen=True, slots=True)
class SaveSlot:
    """name: of the conversation it is saved as."""

    slot: int
    name: str


@dataclass(frozen=True, slots=True)
class CompareStates:
    """Leads to StatesCompared, over the slots that were idle."""


@dataclass(frozen=True, slots=True)
class RestoreState:
    slot: int
    state: StoredState


@dataclass(frozen=True, slots=True)
class LookUpPrefix:
    """Leads to PrefixLookedUp."""


@dataclass(frozen=True, slots=True)
class FindBoundary:
    """Leads to PrefixLookedUp with its length."""


@dataclass(frozen=True, slots=True)
class ComputePrefix:
    """Exactly to its end, then saved."""


@dataclass(frozen=True, slots=True)
class ListSlots:
    """Leads to StackStops with its slots."""


@dataclass(frozen=True, slots=True)
class CountAsSaved:
    """What this slot holds is on disk and was used just now, if its save went well."""

    slot: int


# What needs no slots, and what means nothing without them.
ServerAction = (
    LookAtServer | AdoptServer | ForgetServer | ShowWarm | ShowCold | WantLastPrefix | DropWanted | StopWarmUp
    | AwaitWarmUp | StartWarmUp | ConsiderWarmUp | LookUpConversation | ProvidePrefix | CountAsLatest
)  # fmt: skip
SlotAction = (
    LookUpStates | FillSlot | CompareAhead | LookForBusySlots | MakeRoom | CountAsHeld | AwaitIdleSlots | SaveSlot
    | CompareStates | RestoreState | LookUpPrefix | FindBoundary | ComputePrefix | ListSlots | CountAsSaved
)  # fmt: skip
Action = ServerAction | SlotAction
