"""How long a service that dies again and again waits: longer each time, and never for good."""

from __future__ import annotations

from llmstack.process.daemon import BACKOFF_S, LONG_PAUSES_S, pause_after
from llmstack.supervisor import ServiceState


def test_the_pauses_grow_and_have_no_end() -> None:
    pauses = [pause_after(deaths) for deaths in range(1, 200)]
    assert [seconds for _, seconds in pauses] == sorted(seconds for _, seconds in pauses)
    assert pauses[-1] == (ServiceState.FAILED, LONG_PAUSES_S[-1])


def test_only_a_service_in_long_pauses_counts_as_failed() -> None:
    states = [pause_after(deaths)[0] for deaths in range(1, 9)]
    assert states == [ServiceState.BACKOFF] * len(BACKOFF_S) + [ServiceState.FAILED] * 3
