"""Usage and stop reasons, from the upstream's figures to Anthropic's."""

from __future__ import annotations

from llmstack.protocol.anthropic import Usage
from llmstack.protocol.chat import ChatChunk

STOP_REASONS = {
    "stop": "end_turn",
    "eos": "end_turn",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "refusal",
}


def stop_reason(finish: str | None, *, tools: int, sequence: str | None) -> str:
    """A tool turn stops with tool_use whatever finish_reason says (litellm#34692), and none without a call does."""
    if tools:
        return "tool_use"
    if sequence is not None:
        return "stop_sequence"
    return STOP_REASONS.get(finish or "", "end_turn")


def usage_after(old: Usage, chunk: ChatChunk) -> Usage:
    """The usage after a chunk. Anthropic's input_tokens leave out what the cache held; OpenAI's prompt has all."""
    prompt: int | None = None
    cached: int | None = None
    output: int | None = None
    usage, timings = chunk.usage, chunk.timings
    if usage is not None:
        prompt, output = usage.prompt_tokens, usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            cached = usage.prompt_tokens_details.cached_tokens
    if timings is not None:
        if cached is None:
            cached = timings.cache_n
        if prompt is None and timings.prompt_n is not None:
            prompt = timings.prompt_n + (timings.cache_n or 0)
        if output is None:
            output = timings.predicted_n
    cached = old.cache_read_input_tokens if cached is None else cached
    return Usage(
        input_tokens=old.input_tokens if prompt is None else max(prompt - cached, 0),
        cache_read_input_tokens=cached,
        output_tokens=old.output_tokens if output is None else output,
    )
