"""The back ends of a search: how each is asked, and what its answer says. Data and pure functions; who carries the
bytes is elsewhere (proxy/web).

| back end  | asked by                                           | domain lists                                        |
| --------- | -------------------------------------------------- | --------------------------------------------------- |
| `searxng` | POST BASE/search, a form (docs.searxng.org)        | `site:` in the query, which its engines may ignore  |
| `brave`   | GET BASE/web/search, key in `X-Subscription-Token` | `site:` in the query                                |
| `tavily`  | POST BASE/search, JSON, key as a bearer            | `include_domains`, `exclude_domains`                |
| `command` | a program of the user's, the query its last word   | none                                                |

Whatever a back end does with a list, its results are held against it here (`permitted`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from llmstack.commands import command_line
from llmstack.protocol.limits import most
from llmstack.protocol.web.calls import SearchWish, query_too_long
from llmstack.protocol.web.domains import DomainRules
from llmstack.protocol.web.hits import WebHit, hit
from llmstack.protocol.web.refusal import WebRefused, trial, unavailable

_JSON = {"accept": "application/json"}
_LOOKED_AT = 50  # results of an answer: lists of domains may leave few of them


@dataclass(frozen=True, slots=True)
class WebExchange:
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class SearchService:
    """base_url: where it is unless the user says otherwise; "" where the user must. characters: of a query at most."""

    name: str
    base_url: str
    needs_key: bool
    characters: int
    exchange: Callable[[str, SearchWish, str], WebExchange]
    hits: Callable[[Any], list[WebHit]]


def permitted(hits: Iterable[WebHit], domains: DomainRules) -> list[WebHit]:
    """Those that the lists permit, each address once, up to the limit."""
    chosen: dict[str, WebHit] = {}
    for one in hits:
        if one.url not in chosen and domains.permit(one.url):
            chosen[one.url] = one
        if len(chosen) == most("web_results"):
            break
    return list(chosen.values())


def read_answer(service: SearchService, data: bytes) -> list[WebHit]:
    """Raises WebRefused for what is no answer of that service's."""
    try:
        return service.hits(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Shapeless):
        sentence = f"{service.name} did not answer as its API does; {trial()} tries it."
        raise unavailable(sentence, "malformed") from None


class _Shapeless(Exception):
    """An answer of another shape."""


def _members(value: Any, *names: str) -> list[Mapping[str, Any]]:
    """The objects of a list inside objects. An answer without the last name has no results."""
    for name in names:
        if not isinstance(value, dict):
            raise _Shapeless
        value = value.get(name)
        if value is None:
            return []
    if not isinstance(value, list):
        raise _Shapeless
    return [item for item in value[:_LOOKED_AT] if isinstance(item, dict)]


def _hits(
    items: Iterable[Mapping[str, Any]], snippet: str, ages: tuple[str, ...] = (), *, markup: bool = True
) -> list[WebHit]:
    every = (
        hit(
            item.get("title"),
            item.get("url"),
            item.get(snippet),
            next((item[age] for age in ages if item.get(age)), ""),
            markup=markup,
        )
        for item in items
    )
    return [one for one in every if one is not None]


def _with_sites(wish: SearchWish, limit: int) -> str:
    """The query with its lists as search engines write them; the query alone where that would be too long."""
    sites = " OR ".join(f"site:{rule.host}" for rule in wish.domains.allowed)
    sites = f"({sites})" if len(wish.domains.allowed) > 1 else sites
    without = " ".join(f"-site:{rule.host}" for rule in wish.domains.blocked if not rule.written)
    query = " ".join(part for part in (wish.query, sites, without) if part)
    return query if len(query) <= limit else wish.query


# ---- SearXNG ----------------------------------------------------------------------------------------------------


def _ask_searxng(base: str, wish: SearchWish, key: str) -> WebExchange:
    form = {"q": _with_sites(wish, most("web_query")), "format": "json"}
    headers = {**_JSON, "content-type": "application/x-www-form-urlencoded"}
    return WebExchange("POST", f"{base}/search", headers, urlencode(form).encode())


def _of_searxng(answer: Any) -> list[WebHit]:
    if not isinstance(answer, dict) or "results" not in answer:
        raise _Shapeless
    return _hits(_members(answer, "results"), "content", ("publishedDate",))


# ---- Brave ------------------------------------------------------------------------------------------------------

_BRAVE_CHARACTERS, _BRAVE_WORDS = 400, 50  # api-dashboard.search.brave.com, "Web search", `q`


def _ask_brave(base: str, wish: SearchWish, key: str) -> WebExchange:
    query = _with_sites(wish, _BRAVE_CHARACTERS)
    query = query if len(query.split()) <= _BRAVE_WORDS else wish.query
    fields = {"q": query, "count": most("web_results"), "text_decorations": "false", "result_filter": "web"}
    return WebExchange("GET", f"{base}/web/search?{urlencode(fields)}", {**_JSON, "x-subscription-token": key})


def _of_brave(answer: Any) -> list[WebHit]:
    if not isinstance(answer, dict) or answer.get("type", "search") != "search":
        raise _Shapeless
    return _hits(_members(answer, "web", "results"), "description", ("page_age", "age"))


# ---- Tavily -----------------------------------------------------------------------------------------------------


def _ask_tavily(base: str, wish: SearchWish, key: str) -> WebExchange:
    body: dict[str, Any] = {"query": wish.query, "max_results": most("web_results"), "search_depth": "basic"}
    if wish.domains.allowed:
        body["include_domains"] = [rule.host for rule in wish.domains.allowed]
    if without := [rule.host for rule in wish.domains.blocked if not rule.written]:
        body["exclude_domains"] = without
    headers = {**_JSON, "content-type": "application/json", "authorization": f"Bearer {key}"}
    return WebExchange("POST", f"{base}/search", headers, msgspec.json.encode(body))


def _of_tavily(answer: Any) -> list[WebHit]:
    if not isinstance(answer, dict) or "results" not in answer:
        raise _Shapeless
    return _hits(_members(answer, "results"), "content", ("published_date",))


# ---- a command --------------------------------------------------------------------------------------------------


def _ask_command(base: str, wish: SearchWish, key: str) -> WebExchange:
    raise AssertionError("a command is run, not sent to")


def _of_command(answer: Any) -> list[WebHit]:
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise _Shapeless
    return _hits(_members(answer), "snippet", ("page_age",), markup=False)


def last_word(query: str) -> str:
    """The query as a command's last argument: never an option of the command's."""
    return f" {query}" if query.startswith("-") else query


SERVICES: Mapping[str, SearchService] = {
    service.name: service
    for service in (
        SearchService("searxng", "", False, most("web_query"), _ask_searxng, _of_searxng),
        SearchService("brave", "https://api.search.brave.com/res/v1", True, _BRAVE_CHARACTERS, _ask_brave, _of_brave),
        SearchService("tavily", "https://api.tavily.com", True, 400, _ask_tavily, _of_tavily),
        SearchService("command", "", False, most("web_query"), _ask_command, _of_command),
    )
}


def require_length(service: SearchService, query: str) -> None:
    """Raises WebRefused for a query that this back end does not take."""
    if len(query) > service.characters:
        raise query_too_long(service.characters)


# ---- what a status means ----------------------------------------------------------------------------------------


def refused_by(service: SearchService, status: int, data: bytes) -> WebRefused:
    """An HTTP status that is no answer. data: the beginning of its body, of which nothing is repeated."""
    name = service.name
    if 300 <= status < 400:
        return unavailable(
            f"{name} sends to another address ({status}), which is not followed;"
            f" give its own: `{command_line('web-search', 'use', name)}`.",
            "redirect",
        )
    if status == 403 and name == "searxng":
        return unavailable(
            "searxng answers no JSON (403): its settings.yml must list json under search.formats.", "no_json"
        )
    if status == 401 and not service.needs_key:
        return unavailable(f"{name} wants a login (401), and this stack has none for it; {trial()} tries it.", "key")
    if status in (401, 403) or (status == 422 and b"TOKEN" in data):
        return unavailable(
            f"{name} refused the key of this stack ({status});"
            f" `{command_line('web-search', 'use', name)}` stores another.",
            "key",
        )
    if status == 429:
        return WebRefused(
            "too_many_requests", f"{name} was asked too often (429); wait a little, then search again.", "rate_limit"
        )
    if status in (402, 432, 433):  # docs.tavily.com, "Errors": the plan's limit, the limit of paying as you go
        return WebRefused(
            "too_many_requests", f"The searches of this stack's plan at {name} are used up ({status}).", "used_up"
        )
    if status >= 500:
        return unavailable(f"{name} failed ({status}); {trial()} tries it.", "server_error")
    if status in (404, 405):
        return unavailable(
            f"There is no {name} at its address ({status}); `{command_line('web-search', 'show')}` shows it.", "no_api"
        )
    return unavailable(f"{name} did not take the search ({status}); {trial()} tries it.", "refused")
