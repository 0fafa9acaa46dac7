"""Why a search or a page cannot be had, in Anthropic's codes and in a sentence."""

from __future__ import annotations

from llmstack.commands import command_line


class WebRefused(Exception):
    """code: an error code of the tool's result (anthropic.types, WebSearchToolResultErrorCode and
    WebFetchToolResultErrorCode). sentence: what happened and what helps, without the query, a key, or a text of the
    other side's. cause: one word for the log and the figures."""

    def __init__(self, code: str, sentence: str, cause: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.cause = cause


def invalid_input(sentence: str) -> WebRefused:
    return WebRefused("invalid_tool_input", sentence, "invalid")


def unavailable(sentence: str, cause: str) -> WebRefused:
    return WebRefused("unavailable", sentence, cause)


def trial() -> str:
    """The command that tries the back end from a terminal."""
    return f"`{command_line('web-search', 'test', 'QUERY')}`"
