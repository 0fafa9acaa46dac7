"""Chunks of a chat completion become the events of one Anthropic message. Its states: stream_states.py.

| rule                                                                          | source                      |
| ----------------------------------------------------------------------------- | --------------------------- |
| one block is open at a time, indexes in sequence, empty deltas open nothing   | Messages streaming reference |
| a tool turn stops with tool_use though finish_reason is `stop`                | litellm#34692               |
| the stream goes on to be read after finish_reason: usage comes last           | OpenAI, stream_options      |
| an end without finish_reason is an error, never an end_turn                   | the client must ask again   |
| the keepalive is a message_delta that stops nothing: pings and comments do not count for the client's idle timer |
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.protocol import chat
from llmstack.protocol.anthropic import (
    AnyBlock,
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    InputJsonDelta,
    MessageBody,
    MessageDelta,
    MessageStart,
    MessageStop,
    SignatureDelta,
    StopDelta,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    Usage,
)
from llmstack.protocol.calls import PendingCall, Pieces, arguments_of, excess, extra_of, known_name
from llmstack.protocol.count import estimate
from llmstack.protocol.errors import Cause, Failure, FailureKind, ProtocolFault, from_upstream
from llmstack.protocol.inline_tool_calls import InlineToolCallParser, Thought
from llmstack.protocol.json_text import JsonPieces
from llmstack.protocol.leaked_call import InlineCall
from llmstack.protocol.reading import SIGNATURE as READING
from llmstack.protocol.reading import ReadingBlock, ReadingNotes
from llmstack.protocol.repair import ArgumentStream, Members
from llmstack.protocol.replay import Generated
from llmstack.protocol.stream_settings import StreamSettings
from llmstack.protocol.stream_states import TABLE, StreamSignal, StreamState
from llmstack.protocol.usage import stop_reason, usage_after, usage_while_reading


class MessageStream:
    """Feed chunks, get events. It never waits and never reads a clock."""

    def __init__(self, settings: StreamSettings) -> None:
        self.state = StreamState.START
        self._index = -1
        self._reset(settings)

    def restart(self, settings: StreamSettings) -> None:
        """Another attempt takes over. Only while no block was opened: message_start may have gone out already."""
        if self.emitted:
            raise RuntimeError("a block was sent already")
        self._reset(settings)

    def _reset(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.usage = Usage(input_tokens=settings.input_tokens)
        self.stop_reason: str | None = None
        self.stop_sequence: str | None = None
        self.emitted = False  # a block has been opened: the answer cannot be asked for again
        self.tool_calls = 0
        self.leaked = 0
        self.repaired = 0
        self.failure: Failure | None = None
        self._open: type[TextBlock] | type[ThinkingBlock] | type[ToolUseBlock] | None = None
        self._reading = ReadingNotes()
        self._blocks = 0  # of the model's own
        self._call: PendingCall | None = None
        self._arguments: ArgumentStream | None = None
        self._members: dict[str, Members] = {}  # by tool: its schema is read once for all calls of it
        self._tool_id = ""
        self._pieces = Pieces(settings.caller)
        self._late_text: list[str] = []  # came while a call's arguments were still open
        self._finish: str | None = None
        self._cut = False  # the arguments of the last call are not whole
        self._refusal: list[str] = []
        self._size = 0  # characters that the model wrote, for an upstream that counts none
        self._counted = False
        self._parser = InlineToolCallParser(
            settings.tools if settings.recover_leaks else {}, thinking=settings.inline_thinking
        )

    # ---- what the shell calls -----------------------------------------------------------------------------

    def receive(self, chunk: chat.ChatChunk) -> list[Event]:
        if self.state is StreamState.DONE:
            return []
        if chunk.error is not None:
            return self.fail(from_upstream(0, chunk.error, name=self.settings.upstream))
        out: list[Event] = []
        if chunk.usage is not None or chunk.timings is not None:
            self.usage = usage_after(self.usage, chunk)
            self._counted = self._counted or self.usage.output_tokens > 0
        if chunk.prompt_progress is not None and (not self.emitted or self._open is ReadingBlock):
            self.usage = usage_while_reading(self.usage, chunk.prompt_progress)
            if self.settings.show_reading:
                self._read(chunk.prompt_progress, out)
        if chunk.verbose is not None and chunk.verbose.stop_type == "word" and chunk.verbose.stopping_word:
            self._stopped_by(chunk.verbose.stopping_word)
        # No choices: the usage chunk (OpenAI, stream_options.include_usage; llama.cpp, to_json_oaicompat_chat_stream).
        if not chunk.choices or self.state is StreamState.FINISHING:
            return out
        choice = chunk.choices[0]
        if choice.index:  # of several answers (n > 1, which no request here asks for) the first is the message
            return out
        if self.state is StreamState.START:
            self._begin(out, self.usage)
        delta = choice.delta or choice.message
        if delta is not None:
            self._delta(delta, out)
            if self.failure is not None:
                return out
        if choice.finish_reason:
            # Not the end yet: message_delta must carry the final usage (Messages streaming, "Event types"), and that
            # comes in a later chunk. Blocks can be closed now, because no delta follows a finish_reason.
            self._finish = choice.finish_reason
            if isinstance(choice.stop_reason, str):
                self._stopped_by(choice.stop_reason)
            self._drain(out)
            self._close(out)
            self._move(StreamSignal.FINISH)
        return out

    def keepalive(self) -> list[Event]:
        """An event that keeps the client's idle timer from firing and leaves nothing behind in the message.

        A message_delta may come more than once, its usage is cumulative, and null changes no stop_reason (Messages
        streaming, "Event types"). A `ping` is legal as well, but Claude Code's timer does not count it. The figures
        come with the last one alone: Claude Code 2.1.197 adds up what it knows of them at each message_delta, six
        times the prompt for five signs of life.
        """
        out: list[Event] = []
        if self.state is StreamState.START:
            self._begin(out, Usage())
        elif self.state is not StreamState.DONE:
            out.append(MessageDelta(delta=StopDelta(), usage=Usage()))
        return out

    def end(self) -> list[Event]:
        """The upstream is finished: [DONE] or a closed connection."""
        if self.state is StreamState.DONE:
            return []
        if self.state is not StreamState.FINISHING:
            return self.fail(
                Failure(FailureKind.API, f"{self.settings.upstream} ended its answer before it was complete", Cause.CUT)
            )
        out: list[Event] = []
        if not self._blocks:
            # A message without any block makes the client ask again without end: one empty text block.
            self._move(StreamSignal.REOPEN)
            self._open_block(TextBlock(), out)
            self._close(out)
            self._move(StreamSignal.FINISH)
        finish = "refusal" if self._refusal else self._finish
        reason = stop_reason(finish, calls=self.tool_calls > 0, cut=self._cut, sequence=self.stop_sequence)
        self.stop_reason = reason
        if not self._counted:
            self.usage = msgspec.structs.replace(self.usage, output_tokens=estimate(self._size))
        stop = StopDelta(stop_reason=reason, stop_sequence=self.stop_sequence if reason == "stop_sequence" else None)
        if reason == "refusal":
            stop.stop_details = {"type": "refusal", "category": None, "explanation": "".join(self._refusal) or None}
        out.append(MessageDelta(delta=stop, usage=self.usage))
        out.append(MessageStop())
        self._move(StreamSignal.END)
        return out

    def fail(self, failure: Failure) -> list[Event]:
        """One error event, unless the stream has ended.

        It stands in the place of message_stop (Messages streaming, "Error events"): blocks stay open, because a client
        that saw their end would take half an answer, or half a command, for a whole one.
        """
        if self.state is StreamState.DONE:
            return []
        self._move(StreamSignal.FAIL)
        self.failure = failure
        return [failure.to_event()]

    # ---- the machine --------------------------------------------------------------------------------------

    def _move(self, signal: StreamSignal) -> None:
        state = TABLE.get((self.state, signal))
        if state is None:
            raise ProtocolFault("MessageStream", signal, self.state)
        self.state = state

    def _begin(self, out: list[Event], usage: Usage) -> None:
        self._move(StreamSignal.BEGIN)
        body = MessageBody(id=self.settings.message_id, model=self.settings.model, usage=usage)
        out.append(MessageStart(message=body))

    def _open_block(self, block: AnyBlock, out: list[Event]) -> None:
        self._move(StreamSignal.OPEN)
        self._index += 1
        self._blocks += not isinstance(block, ReadingBlock)
        self.emitted = True
        self._open = type(block)  # type: ignore[assignment]
        out.append(BlockStart(index=self._index, content_block=block))

    def _read(self, progress: chat.PrefillProgress, out: list[Event]) -> None:
        line = self._reading.line(progress)
        if not line:
            return
        if self.state is StreamState.START:
            self._begin(out, self.usage)
        if self._open is None:
            self._open_block(ReadingBlock(), out)
        out.append(BlockDelta(self._index, ThinkingDelta(line)))

    def _close(self, out: list[Event]) -> None:
        if self.state is not StreamState.OPEN:
            return
        if self._open is ReadingBlock:
            out.append(BlockDelta(index=self._index, delta=SignatureDelta(READING)))
        if self._open is ThinkingBlock:
            # A thinking block ends in a signature (Extended thinking, "Streaming thinking"): SDKs refuse one without.
            out.append(BlockDelta(index=self._index, delta=SignatureDelta(self.settings.signature)))
        elif self._open is ToolUseBlock:
            self._end_call(out)
        out.append(BlockStop(index=self._index))
        self._move(StreamSignal.CLOSE)
        self._open = None

    def _delta(self, delta: chat.Delta, out: list[Event]) -> None:
        reasoning = delta.reasoning_content
        if reasoning is None and isinstance(delta.reasoning, str):
            reasoning = delta.reasoning
        if reasoning:
            self._thinking(reasoning, out)
        content = delta.content
        if content:
            if self.settings.forced and type(content) is str:
                name = self.settings.forced if self._call is None and not self._pieces else None
                self._tool_piece(chat.ToolCallDelta(index=0, function=chat.FunctionDelta(name, content)), out)
            elif type(content) is not str:
                self._parts(content, out)
            elif self._parser.idle(content):  # nearly every delta: no mark can begin in it
                self._text(content, out)
            else:
                self._parsed(self._parser.receive(content), out)
        if delta.refusal:  # OpenAI sends a refusal beside `content`; Anthropic's is plain text, its stop_reason says so
            self._refusal.append(delta.refusal)
            self._text(delta.refusal, out)
        if delta.tool_calls:
            for piece in delta.tool_calls:
                self._tool_piece(piece, out)
                if self.failure is not None:
                    return

    def _parts(self, parts: Any, out: list[Event]) -> None:
        for thinking, text in chat.parts_of(parts):
            if thinking:
                self._thinking(text, out)
            else:
                self._parsed(self._parser.receive(text), out)

    def _text(self, text: str, out: list[Event]) -> None:
        if self._open is not TextBlock:
            if self._call is not None and not self._call.complete():
                # A chat delta may carry text while a call's arguments are open; a message has one block at a time, and
                # closing this one would cut the arguments in two.
                self._late_text.append(text)
                return
            self._drain_calls(out)
            self._close(out)
            self._open_block(TextBlock(), out)
        self._size += len(text)
        out.append(BlockDelta(self._index, TextDelta(text)))

    def _thinking(self, text: str, out: list[Event]) -> None:
        self._size += len(text)
        if not self.settings.thinking:
            return
        if self._open is not ThinkingBlock:
            self._flush_parser(out)
            self._drain_calls(out)
            self._close(out)
            self._open_block(ThinkingBlock(), out)
        out.append(BlockDelta(self._index, ThinkingDelta(text)))

    def _parsed(self, pieces: list[str | InlineCall | Thought], out: list[Event]) -> None:
        for piece in pieces:
            if isinstance(piece, InlineCall):
                self.leaked += 1
                self._drain_calls(out)
                self._close(out)
                self._start_call(PendingCall(key=-1, name=piece.name, raw=JsonPieces([piece.arguments])), out)
                self._close(out)
            elif isinstance(piece, Thought):
                if self.settings.thinking:
                    if self._open is not ThinkingBlock:
                        self._close(out)
                        self._open_block(ThinkingBlock(), out)
                    out.append(BlockDelta(self._index, ThinkingDelta(piece.text)))
            elif piece:
                self._text(piece, out)

    def _flush_parser(self, out: list[Event]) -> None:
        self._parsed(self._parser.end(), out)

    # ---- tool calls ---------------------------------------------------------------------------------------

    def _tool_piece(self, piece: chat.ToolCallDelta, out: list[Event]) -> None:
        call = self._pieces.known(piece, self._call)
        if call is None:
            self._flush_parser(out)
            call = self._pieces.begin(piece, self._call)
            if call is None:
                return
        function = piece.function
        if function is None:
            return
        # Names come whole, in pieces, or again in each piece: equal ones are the same, others are appended.
        if function.name and call is not self._call and function.name != call.name:
            call.name += function.name
        if piece.extra_content is not None:
            call.extra = extra_of(piece) or call.extra
        text = arguments_of(piece)
        if text:
            call.raw.add(text)
        most_bytes, is_open = self.settings.max_arguments, call is self._call
        if call.raw.size > most_bytes or not is_open:  # one that is open has no more of anything but arguments
            too_much = excess(call, len(self._pieces), self.tool_calls, most_bytes)
            if too_much is not None:
                message = f"{self.settings.upstream} wrote {too_much}"
                out += self.fail(Failure(FailureKind.API, message, Cause.MALFORMED))
                return
        if is_open:
            self._send_arguments(call, out)
        else:
            self._advance(out)

    def _advance(self, out: list[Event]) -> None:
        """Opens the next waiting call; closes those that are whole and have others behind them."""
        while self._pieces:
            if self._call is not None:
                if not self._call.complete():
                    return
                self._close(out)
            head = self._pieces.next_ready(self.settings.tools)
            if head is None:
                return
            self._close(out)
            self._start_call(head, out)

    def _start_call(self, call: PendingCall, out: list[Event]) -> None:
        settings = self.settings
        if settings.caller and call.name == settings.caller:
            call.unwrap()
        name = known_name(call.name, settings.tools)
        self._tool_id = settings.new_tool_id(call.upstream_id)
        self._open_block(ToolUseBlock(id=self._tool_id, name=settings.names.get(name, name)), out)
        self.tool_calls += 1
        self._call = call
        call.name = name
        self._arguments = ArgumentStream(self._members_of(name))
        self._send_arguments(call, out)

    def _members_of(self, name: str) -> Members:
        members = self._members.get(name)
        if members is None:
            settings = self.settings
            members = self._members[name] = Members.of(settings.tools.get(name) if settings.repair else None)
        return members

    def _send_arguments(self, call: PendingCall, out: list[Event]) -> None:
        assert self._arguments is not None
        pieces = call.raw.pieces
        for piece in pieces[call.sent :]:
            text = self._arguments.receive(piece)
            if text:
                out.append(BlockDelta(self._index, InputJsonDelta(text)))
        call.sent = len(pieces)

    def _end_call(self, out: list[Event]) -> None:
        call, arguments = self._call, self._arguments
        assert call is not None and arguments is not None
        rest = arguments.end()
        if rest:
            out.append(BlockDelta(self._index, InputJsonDelta(rest)))
        self.repaired += arguments.repairs
        self._cut = not call.complete()
        self._size += call.raw.size
        if self.settings.remember is not None:
            # As the model wrote them, not as repaired: on replay the upstream finds its own tokens in its cache.
            caller = self.settings.caller if call.wrapped else ""
            generated = Generated(call.upstream_id, call.wrapped or str(call.raw), call.extra, caller)
            self.settings.remember(self._tool_id, generated)
        self._pieces.close(call)
        self._call = self._arguments = None

    def _drain_calls(self, out: list[Event]) -> None:
        """Calls whose pieces came while another was open, in the order in which they began."""
        if self._call is None and not self._pieces:
            return
        if self._call is not None:
            self._close(out)
        for call in self._pieces.drain():
            if call.name:
                self._close(out)
                self._start_call(call, out)
                self._close(out)
        late, self._late_text = self._late_text, []
        if late:
            self._text("".join(late), out)

    def _drain(self, out: list[Event]) -> None:
        self._flush_parser(out)
        self._drain_calls(out)

    def _stopped_by(self, word: str) -> None:
        # vLLM puts a template's own end mark here too: only a word of the request is a stop_sequence to its client.
        if not self.settings.stop_sequences or word in self.settings.stop_sequences:
            self.stop_sequence = word
