"""The upstream's side: chunks of a chat completion, as llama-server, OpenAI and their kin send them.

Only what is read is declared; whatever else a chunk carries is skipped. Fields whose shape differs between
upstreams are `Any` and are normalised where they are used. A member of a wrong type costs itself, never the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec


class FunctionDelta(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None  # a JSON string in pieces; an object from servers that parse it themselves


class ToolCallDelta(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    extra_content: Any = None  # Gemini's thought signature: it wants it back with the call


class Delta(msgspec.Struct, gc=False):
    content: Any = None  # a string; a list of typed parts from Mistral's API
    reasoning_content: str | None = None  # llama-server, DeepSeek, vLLM
    reasoning: Any = None  # OpenRouter, Ollama, newer vLLM
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    message: Delta | None = None  # a completion that was not streamed
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM: the stop string that ended the text
    index: int | None = 0


class PromptDetails(msgspec.Struct, gc=False):
    """What of the prompt the cache held, and what was written to it."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None  # OpenRouter
    cache_creation_tokens: int | None = None  # LiteLLM
    created_cache_tokens: int | None = None  # vLLM


class UpstreamUsage(msgspec.Struct, gc=False):
    """OpenAI's, and where its members are absent Anthropic's and DeepSeek's names beside them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None

    @property
    def cached(self) -> int | None:
        details = self.prompt_tokens_details
        return _first(
            details.cached_tokens if details is not None else None,
            self.cache_read_input_tokens,
            self.prompt_cache_hit_tokens,
        )

    @property
    def written(self) -> int | None:
        details = self.prompt_tokens_details or PromptDetails()
        return _first(
            details.cache_write_tokens,
            details.cache_creation_tokens,
            details.created_cache_tokens,
            self.cache_creation_input_tokens,
        )


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


class ChunkTimings(msgspec.Struct, gc=False):
    """llama-server (tools/server, `timings`): cache_n tokens reused, prompt_n computed, predicted_n generated."""

    cache_n: int | None = None
    prompt_n: int | None = None
    predicted_n: int | None = None
    prompt_ms: float | None = None
    predicted_ms: float | None = None


class PrefillProgress(msgspec.Struct, gc=False):
    """llama-server with return_progress: tokens of the prompt, of them cached, of them done."""

    total: int = 0
    cache: int = 0
    processed: int = 0
    time_ms: float = 0.0


class Verbose(msgspec.Struct, gc=False):
    """llama-server with verbose: how the text ended, when stop words were asked for."""

    stop_type: str | None = None
    stopping_word: str | None = None


class ChatChunk(msgspec.Struct, gc=False):
    choices: list[ChunkChoice] | None = None
    usage: UpstreamUsage | None = None
    timings: ChunkTimings | None = None
    prompt_progress: PrefillProgress | None = None
    verbose: Verbose | None = msgspec.field(default=None, name="__verbose")
    error: Any = None


def parts_of(content: Any) -> Iterator[tuple[bool, str]]:
    """(is it thinking, text) of content that comes as a list of typed parts, as from Mistral's API."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        thinking = part.get("thinking")
        if isinstance(thinking, list):
            thinking = "".join(str(p.get("text", "")) for p in thinking if isinstance(p, dict))
        if isinstance(thinking, str) and thinking:
            yield True, thinking
        text = part.get("text")
        if isinstance(text, str) and text:
            yield False, text


def slices(chunk: ChatChunk, size: int) -> Iterator[ChatChunk]:
    """The same in steps of at most `size` characters of text, as if the upstream had sent it so."""
    choice = chunk.choices[0] if chunk.choices else None
    delta = (choice.delta or choice.message) if choice is not None else None
    if choice is None or delta is None:
        yield chunk
        return
    texts = (("reasoning_content", delta.reasoning_content), ("reasoning", delta.reasoning), ("content", delta.content))
    for name, text in texts:
        if not isinstance(text, str) or (name == "reasoning" and delta.reasoning_content is not None):
            continue
        for start in range(0, len(text), size):
            part = msgspec.structs.replace(Delta(), **{name: text[start : start + size]})
            yield ChatChunk(choices=[ChunkChoice(delta=part, index=choice.index)])
        delta = msgspec.structs.replace(delta, **{name: None})
    for call in delta.tool_calls or ():
        for piece in _call_slices(call, size):
            yield ChatChunk(choices=[ChunkChoice(delta=Delta(tool_calls=[piece]), index=choice.index)])
    rest = msgspec.structs.replace(delta, tool_calls=None)
    yield msgspec.structs.replace(chunk, choices=[msgspec.structs.replace(choice, delta=rest, message=None)])


def _call_slices(call: ToolCallDelta, size: int) -> Iterator[ToolCallDelta]:
    function = call.function
    if function is None or not isinstance(function.arguments, str) or len(function.arguments) <= size:
        yield call
        return
    text = function.arguments
    yield msgspec.structs.replace(call, function=FunctionDelta(function.name, text[:size]))
    for start in range(size, len(text), size):
        yield ToolCallDelta(call.index, call.id, FunctionDelta(arguments=text[start : start + size]))


_decoder = msgspec.json.Decoder(ChatChunk)


def decode(data: bytes) -> ChatChunk:
    """Raises msgspec.DecodeError (ValidationError is one) for what is no chunk."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        try:
            chunk: ChatChunk = _salvaged(msgspec.json.decode(data), ChatChunk)
            return chunk
        except RecursionError as error:
            raise msgspec.DecodeError(str(error)) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _salvaged(value: Any, kind: Any) -> Any:
    """A struct of what has the right type, or can be read as it (30.0 and "30" as a count). Raises ValidationError for
    what is no object, and for choices that are no list: without them there is no answer."""
    if not isinstance(value, dict):
        raise msgspec.ValidationError("an object is required")
    members: dict[str, Any] = {}
    for name, wire_name, member_type, inner_kind in _members(kind):
        member = value.get(wire_name)
        if member is None:
            continue
        try:
            members[name] = msgspec.convert(member, member_type, strict=False)
        except msgspec.ValidationError:
            if name == "choices" and not isinstance(member, list):
                raise
            several, inner = inner_kind
            if inner is not None and several and isinstance(member, list):
                members[name] = [_salvaged(item, inner) for item in member if isinstance(item, dict)]
            elif inner is not None and not several and isinstance(member, dict):
                members[name] = _salvaged(member, inner)
    return kind(**members)


@cache
def _members(kind: Any) -> list[tuple[str, str, Any, tuple[bool, Any]]]:
    """Name, name on the wire, type, and the struct in it or in the list that it is, of each member."""
    types = get_type_hints(kind)
    return [
        (field.name, field.encode_name, types[field.name], _struct_in(types[field.name]))
        for field in msgspec.structs.fields(kind)
    ]


def _struct_in(kind: Any) -> tuple[bool, Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return False, kind
    for part in get_args(kind):
        several, inner = _struct_in(part)
        if inner is not None:
            return several or get_origin(kind) is list, inner
    return False, None
