"""What of a dying engine's log is shown."""

from __future__ import annotations

from llmstack.llama_server.last_words import MOST_CHARACTERS, last_words

ASSERT = "/src/ggml.c:12: GGML_ASSERT(n_tokens > 0) failed"


def test_last_words_are_the_fatal_lines_and_nothing_else_of_the_log() -> None:
    lines = [
        "slot update: prompt: 'my password is hunter2'",
        ASSERT + "\x1b[31m",
        "terminate called after throwing an instance of 'std::runtime_error'",
        "  what():  parse error; last read: 'my password is hunter2'",
        "llmstack: killed by SIGABRT; out of memory",
    ]
    words = last_words(lines)
    assert words == "terminate called after throwing an instance of 'std::runtime_error'; what():  parse error"
    assert last_words(lines[:2]) == ASSERT + "[31m"
    assert last_words([f"GGML_ASSERT key-of-ours {'x' * 999}"], ["key-of-ours"]).startswith("GGML_ASSERT [redacted] x")
    assert len(last_words([f"GGML_ASSERT {'x' * 999}"])) == MOST_CHARACTERS and last_words(["all is well"]) == ""
