"""The states of one message while it is streamed, and the moves between them.

        first chunk        block opens            finish_reason        upstream closes
START ---------------> IDLE <-----------> OPEN ----------------> FINISHING ------------> DONE
  |                      block closes                                 (usage may follow)   ^
  +------------------------------ a failure, anywhere: one error event ------------------+
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class StreamState(enum.Enum):
    START = "start"
    IDLE = "idle"
    OPEN = "open"
    FINISHING = "finishing"
    DONE = "done"


class StreamSignal(enum.Enum):
    BEGIN = "begin"
    OPEN = "open"
    CLOSE = "close"
    FINISH = "finish"
    REOPEN = "reopen"  # only for the empty message: nothing was opened, so a block comes before the end after all
    END = "end"
    FAIL = "fail"


TABLE: Mapping[tuple[StreamState, StreamSignal], StreamState] = {
    (StreamState.START, StreamSignal.BEGIN): StreamState.IDLE,
    (StreamState.IDLE, StreamSignal.OPEN): StreamState.OPEN,
    (StreamState.OPEN, StreamSignal.CLOSE): StreamState.IDLE,
    (StreamState.IDLE, StreamSignal.FINISH): StreamState.FINISHING,
    (StreamState.FINISHING, StreamSignal.REOPEN): StreamState.IDLE,
    (StreamState.FINISHING, StreamSignal.END): StreamState.DONE,
    (StreamState.START, StreamSignal.FAIL): StreamState.DONE,
    (StreamState.IDLE, StreamSignal.FAIL): StreamState.DONE,
    (StreamState.OPEN, StreamSignal.FAIL): StreamState.DONE,
    (StreamState.FINISHING, StreamSignal.FAIL): StreamState.DONE,
}
