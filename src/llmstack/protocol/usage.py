"""Usage and stop reasons, from the upstream's figures to Anthropic's."""

from __future__ import annotations

from llmstack.protocol.anthropic import Usage
from llmstack.protocol.chat import ChatChunk, PrefillProgress

STOP_REASONS = {
    "stop": "end_turn",
    "eos": "end_turn",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "refusal",
    "refusal": "refusal",
    "model_context_window_exceeded": "model_context_window_exceeded",
}


def stop_reason(finish: str | None, *, calls: bool, cut: bool, sequence: str | None) -> str:
    """Why the message ended. calls: it has a tool call; cut: the last one's arguments are not whole.

    A tool turn stops with tool_use though the upstream says `stop` (litellm#34692). One that a limit or a filter ended
    does not: a client runs the tools of tool_use alone (Messages API, "Handling stop reasons").
    """
    reason = STOP_REASONS.get(finish or "", "end_turn")
    if reason in ("max_tokens", "refusal", "model_context_window_exceeded"):
        return reason
    if sequence is not None and (cut or not calls):
        return "stop_sequence"
    return "tool_use" if calls else reason


def usage_after(old: Usage, chunk: ChatChunk) -> Usage:
    """The usage after a chunk. Anthropic's input_tokens leave out what the cache held and what was written to it;
    OpenAI's prompt has all."""
    prompt: int | None = None
    cached: int | None = None
    written: int | None = None
    output: int | None = None
    usage, timings = chunk.usage, chunk.timings
    if usage is not None:
        prompt, output = usage.prompt_tokens, usage.completion_tokens
        cached, written = usage.cached, usage.written
    if timings is not None:
        if cached is None:
            cached = timings.cache_n
        if prompt is None and timings.prompt_n is not None:
            prompt = timings.prompt_n + (timings.cache_n or 0)
        if output is None:
            output = timings.predicted_n
    cached = old.cache_read_input_tokens if cached is None else cached
    written = old.cache_creation_input_tokens if written is None else written
    return Usage(
        input_tokens=old.input_tokens if prompt is None else max(prompt - cached - written, 0),
        cache_creation_input_tokens=written,
        cache_read_input_tokens=cached,
        output_tokens=old.output_tokens if output is None else output,
    )


def usage_while_reading(old: Usage, progress: PrefillProgress) -> Usage:
    """llama-server knows the prompt's tokens before the first token of its answer."""
    if progress.total <= 0:
        return old
    return Usage(
        input_tokens=max(progress.total - progress.cache, 0),
        cache_read_input_tokens=progress.cache,
        output_tokens=old.output_tokens,
    )
