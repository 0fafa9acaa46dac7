"""Which request is a side call for the web alone, and what it wants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llmstack.protocol.anthropic import Message, MessagesRequest, Tool
from llmstack.protocol.limits import most
from llmstack.protocol.web.address import PageAddress, addresses_in, page_address
from llmstack.protocol.web.domains import DomainRules, domain_rules
from llmstack.protocol.web.hits import visible
from llmstack.protocol.web.refusal import WebRefused, invalid_input

_CLAUDE_CODE = "Perform a web search for the query: "  # how Claude Code begins the text of its side call
_CHARACTERS_PER_TOKEN = 4


class WebKind(StrEnum):
    SEARCH = "web_search"
    FETCH = "web_fetch"


@dataclass(frozen=True, slots=True)
class WebCall:
    """A request whose only tool is one of the web's. name: as the client calls it."""

    kind: WebKind
    name: str
    tool: Tool
    text: str


@dataclass(frozen=True, slots=True)
class SearchWish:
    query: str
    domains: DomainRules


@dataclass(frozen=True, slots=True)
class PageWish:
    """characters: of its text at most."""

    address: PageAddress
    domains: DomainRules
    characters: int


def web_call(request: MessagesRequest) -> WebCall | None:
    """None for every other request."""
    if request.tools is None or len(request.tools) != 1:
        return None
    tool = request.tools[0]
    for kind in WebKind:
        if tool.type is not None and (tool.type == kind or tool.type.startswith(f"{kind}_")):
            return WebCall(kind, tool.name or kind.value, tool, _last_text(request.messages))
    return None


def query_of(call: WebCall) -> str:
    """In one line. Raises WebRefused."""
    _, mark, query = call.text.rpartition(_CLAUDE_CODE)
    query = query if mark else call.text
    if len(query) > 4 * most("web_query"):  # looked at no closer
        raise query_too_long(most("web_query"))
    query = " ".join(visible(query).split())
    if not query:
        raise invalid_input("There is no query: the last message of the user has no text.")
    if len(query) > most("web_query"):
        raise query_too_long(most("web_query"))
    return query


def query_too_long(limit: int) -> WebRefused:
    return WebRefused(
        "query_too_long",
        f"The query has more than the {limit} characters that a search may have; shorten it.",
        "invalid",
    )


def search_wish(call: WebCall, query: str) -> SearchWish:
    """Raises WebRefused."""
    domains = domain_rules(call.tool.allowed_domains, call.tool.blocked_domains)
    _require_a_use(call.tool)
    return SearchWish(query, domains)


def page_wish(call: WebCall) -> PageWish:
    """Raises WebRefused."""
    addresses = addresses_in(call.text)
    if len(addresses) != 1:
        many = "more than one" if addresses else "none"
        raise invalid_input(f"One address is fetched at a time, and the user's text names {many}.")
    address = page_address(addresses[0])
    domains = domain_rules(call.tool.allowed_domains, call.tool.blocked_domains)
    _require_a_use(call.tool)
    tokens: Any = call.tool.max_content_tokens
    characters = most("web_page_text")
    if isinstance(tokens, int) and tokens > 0:
        characters = min(characters, tokens * _CHARACTERS_PER_TOKEN)
    return PageWish(address, domains, characters)


def _require_a_use(tool: Tool) -> None:
    uses = tool.max_uses
    if uses is None:
        return
    if not isinstance(uses, int) or isinstance(uses, bool):
        raise invalid_input("max_uses must be a whole number.")
    if uses < 1:
        raise WebRefused("max_uses_exceeded", "max_uses allows no use of this tool.", "invalid")


def _last_text(messages: list[Message]) -> str:
    """Of the last message of the user, where it has one."""
    content = next((message.content for message in reversed(messages) if message.role == "user"), "")
    if isinstance(content, str):
        return content
    return "\n".join(block.text for block in content if block.type == "text")
