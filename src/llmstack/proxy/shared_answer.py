"""One answer of the upstreams, and every client that waits for it.

                  events, streamed              complete, or an error event
    WAITING ---------------------> STREAMING ------------------------------> DONE
       |  complete, not streamed                                              ^
       +----------------------------------------------------------------------+
       |  a failure: an HTTP status      an Anthropic upstream is next
       +----------------> REFUSED       +----------------> HANDED_OVER

| event                                     | what happens                                                     |
| ----------------------------------------- | ---------------------------------------------------------------- |
| a client asks                             | an answer is begun, the client listens                           |
| the same bytes again, same session        | the client listens to the running one, from its first byte      |
| the last listener leaves                  | after a short grace the upstream's connection is closed          |
| a listener falls far behind               | the upstream is read no further until it has caught up           |
| nothing was said for a while              | a keepalive event is put into the stream                         |

The resend of a client that gave up arrives within the grace, so a long prefill is not started again (tale#3396).
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass

from llmstack.protocol.anthropic import BlockStart, Event
from llmstack.protocol.clients.asked import ClientSide
from llmstack.protocol.clients.messages import MessagesSide
from llmstack.protocol.errors import Cause, Failure, FailureKind, ProtocolFault
from llmstack.protocol.message import Assembler
from llmstack.protocol.stream import MessageStream
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.stream_states import StreamState
from llmstack.proxy.fallback import Answered, Handover, Outcome, Unanswered
from llmstack.warmstart.audit import Audit

BACKLOG = 1024 * 1024  # bytes a listener may be behind before the upstream has to wait
KEPT_FOR_JOINING = 16 * 1024 * 1024


class AnswerState(enum.Enum):
    WAITING = "waiting"  # nothing was sent: a status can still be chosen
    STREAMING = "streaming"
    DONE = "done"
    REFUSED = "refused"
    HANDED_OVER = "handed over"


class AnswerSignal(enum.Enum):
    COLLECT = "collect"  # events of an answer that is not streamed: they are sent when it is complete
    SEND = "send"
    COMPLETE = "complete"
    BREAK_OFF = "break off"  # an error event was the last one
    REFUSE = "refuse"
    HAND_OVER = "hand over"


MOVES: Mapping[tuple[AnswerState, AnswerSignal], AnswerState] = {
    (AnswerState.WAITING, AnswerSignal.COLLECT): AnswerState.WAITING,
    (AnswerState.WAITING, AnswerSignal.SEND): AnswerState.STREAMING,
    (AnswerState.WAITING, AnswerSignal.COMPLETE): AnswerState.DONE,
    (AnswerState.WAITING, AnswerSignal.REFUSE): AnswerState.REFUSED,
    (AnswerState.WAITING, AnswerSignal.HAND_OVER): AnswerState.HANDED_OVER,
    (AnswerState.STREAMING, AnswerSignal.COMPLETE): AnswerState.DONE,
    (AnswerState.STREAMING, AnswerSignal.BREAK_OFF): AnswerState.DONE,
}
_STREAMING = AnswerState.STREAMING  # looked at for every piece: a module's name is found faster than an enum's
_FINISHED = (AnswerState.DONE, AnswerState.REFUSED, AnswerState.HANDED_OVER)
_GIVEN_UP = Failure(FailureKind.OVERLOADED, "the request was given up", Cause.STOPPING, retry_after_s=2)
LOST = Failure(FailureKind.API, "the answer was lost", Cause.CUT)


@dataclass(slots=True)
class AttemptRecord:
    """The facts of an attempt at one upstream. Its Attempt alone writes them; all others read.

    retries: how often this upstream was asked again. queue_ms: from the request to the upstream's headers, of the last
    try. sent_body: the bytes of the last try.
    """

    upstream: str
    fallback: str = ""
    retries: int = 0
    queue_ms: float | None = None
    sent_body: bytes = b""
    audit: Audit | None = None


class Listener:
    """One client of an answer: how far it has read, and how it is woken."""

    __slots__ = ("_wake", "gone", "position", "read")

    def __init__(self) -> None:
        self.position = 0  # index into the answer's pieces
        self.read = 0  # bytes
        self.gone = False
        self._wake: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def leave(self) -> None:
        self.gone = True
        self.wake()

    async def wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None


class SharedAnswer:
    """What others may read. state: see MOVES. size: bytes of the stream so far. stream: of the attempt that runs or ran
    last; assembler: the same as one message, when it is not streamed. attempts: in their order. refusal: the failure of
    REFUSED; handover: where HANDED_OVER leads. Monotonic seconds: first_byte of the upstream, first_token of a block
    (a keepalive is neither).
    """

    def __init__(
        self,
        *,
        streaming: bool,
        grace_s: float,
        on_finish: Callable[[SharedAnswer], None],
        side: ClientSide | None = None,
    ) -> None:
        """side: in whose words it is written."""
        self.streaming = streaming
        self.side: ClientSide = side if side is not None else MessagesSide()
        self.state = AnswerState.WAITING
        self.size = 0
        self.stream: MessageStream | None = None
        self.assembler = Assembler()
        self.attempts: list[AttemptRecord] = []
        self.refusal: Failure | None = None
        self.handover: Handover | None = None
        self.first_byte: float | None = None
        self.first_token: float | None = None
        self._read_alone = 0  # size when the last listener left
        self._pieces: list[bytes] = []  # the stream as it goes to clients
        self._grace_s = grace_s
        self._on_finish = on_finish
        self._listeners: dict[Listener, None] = {}  # in the order in which they came
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED

    @property
    def failure(self) -> Failure | None:
        """Why there is no whole answer: refused, or broken off."""
        return self.refusal or (self.stream.failure if self.stream is not None else None)

    @property
    def joinable(self) -> bool:
        return not self.finished and self.size < KEPT_FOR_JOINING

    # ---- its life ---------------------------------------------------------------------------------------

    def start(self, work: Callable[[SharedAnswer], Awaitable[Outcome]]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(work))

    async def _work(self, work: Callable[[SharedAnswer], Awaitable[Outcome]]) -> None:
        outcome: Outcome = Unanswered(_GIVEN_UP)
        try:
            outcome = await work(self)
        except asyncio.CancelledError:
            pass  # nobody listens any more, or stop() has ended it already
        finally:
            if not self.finished:
                self.end(outcome)

    def stop(self, failure: Failure) -> None:
        """Ends it now, with an error event where a stream has begun."""
        if self.finished:
            return
        self.end(Unanswered(failure))
        if self._task is not None:
            self._task.cancel()

    def end(self, outcome: Outcome) -> None:
        """Raises ProtocolFault when it has ended before."""
        if isinstance(outcome, Answered) and self.first_byte is None:
            outcome = Unanswered(LOST)
        if isinstance(outcome, Answered):
            self._move(AnswerSignal.COMPLETE)
        elif isinstance(outcome, Handover):
            self._move(AnswerSignal.HAND_OVER)
            self.handover = outcome
        elif self.state is AnswerState.STREAMING:
            if self.stream is not None and (last_words := self.stream.fail(outcome.failure)):
                self._put(last_words)
            self._move(AnswerSignal.BREAK_OFF)
        else:
            self._move(AnswerSignal.REFUSE)
            self.refusal = outcome.failure
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        self._on_finish(self)
        for listener in self._listeners:
            listener.wake()

    def _move(self, signal: AnswerSignal) -> None:
        state = MOVES.get((self.state, signal))
        if state is None:
            raise ProtocolFault("SharedAnswer", signal, self.state)
        self.state = state

    # ---- the attempt's side -----------------------------------------------------------------------------

    def try_upstream(self, upstream: str, fallback: str) -> AttemptRecord:
        """An attempt begins: the record it writes its facts into."""
        record = AttemptRecord(upstream, fallback)
        self.attempts.append(record)
        return record

    def open_stream(self, settings: StreamSettings) -> MessageStream:
        """The stream of a try. After a keepalive message_start has gone out already, and the stream is the same one."""
        if self.stream is None or self.stream.state is StreamState.START:
            self.stream = MessageStream(settings)
        else:
            self.stream.restart(settings)
        return self.stream

    def emit(self, events: list[Event]) -> None:
        """Events of the upstream's answer. Raises ProtocolFault once it is finished."""
        if not events:
            return
        if self.first_byte is None:
            self.first_byte = time.monotonic()
        self._put(events)

    def _put(self, events: list[Event]) -> None:
        if self.first_token is None and any(isinstance(event, BlockStart) for event in events):
            self.first_token = time.monotonic()
        if not self.streaming:
            self._move(AnswerSignal.COLLECT)
            self.assembler.receive(events)
            return
        if self.state is not _STREAMING:
            self._move(AnswerSignal.SEND)
        data = self.side.encode(events)
        self._pieces.append(data)
        self.size += len(data)
        for listener in self._listeners:
            listener.wake()

    async def room(self) -> None:
        """Waits while the slowest listener is too far behind, or nobody listens to what comes."""
        while not self.finished and self.size - self._taken() > BACKLOG:
            self._room.clear()
            await self._room.wait()

    def _taken(self) -> int:
        return min((listener.read for listener in self._listeners), default=self._read_alone)

    # ---- the clients' side ------------------------------------------------------------------------------

    def keepalive(self) -> None:
        if self.stream is not None and not self.finished and (events := self.stream.keepalive()):
            self._put(events)

    def listen(self) -> Listener:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        listener = Listener()
        self._listeners[listener] = None
        return listener

    def take(self, listener: Listener) -> bytes:
        """What this listener has not had yet."""
        pieces = self._pieces
        if listener.position == len(pieces):
            return b""
        data = pieces[-1] if listener.position == len(pieces) - 1 else b"".join(pieces[listener.position :])
        listener.position = len(pieces)
        listener.read += len(data)
        if self.size > KEPT_FOR_JOINING and len(self._listeners) == 1:
            pieces.clear()  # too long to be joined: what was read is not kept
            listener.position = 0
        if not self._room.is_set():
            self._room.set()
        return data

    def leave(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)
        self._room.set()
        self._read_alone = self.size
        if not self._listeners and not self.finished:
            self._leaving = asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    def _abandon(self) -> None:
        if not self._listeners and not self.finished and self._task is not None:
            self._task.cancel()


class InFlight:
    """The answers that are not finished, by what was asked."""

    def __init__(self, grace_s: float = 2.0) -> None:
        self.grace_s = grace_s
        self.active: set[SharedAnswer] = set()
        self._by_key: dict[Hashable, SharedAnswer] = {}

    def find(self, key: Hashable) -> SharedAnswer | None:
        answer = self._by_key.get(key)
        return answer if answer is not None and answer.joinable else None

    def begin(
        self,
        key: Hashable,
        work: Callable[[SharedAnswer], Awaitable[Outcome]],
        *,
        streaming: bool,
        join: bool,
        side: ClientSide | None = None,
    ) -> SharedAnswer:
        """join: whether a later request with the same key may listen too."""

        def forget(answer: SharedAnswer) -> None:
            self.active.discard(answer)
            if self._by_key.get(key) is answer:
                del self._by_key[key]

        grace_s = self.grace_s if join else 0.0
        answer = SharedAnswer(streaming=streaming, grace_s=grace_s, on_finish=forget, side=side)
        self.active.add(answer)
        if join:
            self._by_key[key] = answer
        answer.start(work)
        return answer

    @property
    def waiting(self) -> int:
        """Answers whose upstream has not begun."""
        return sum(answer.first_byte is None for answer in self.active)
