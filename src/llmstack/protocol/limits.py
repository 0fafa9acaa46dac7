"""How much of anything may come from outside: each sum has its bound here, and its error where it is met.

docs/limits.md is this table for people (tests/unit/house/test_limits.py compares them). `most` is well above what the
clients and servers that are known send; what it keeps out would stop the event loop or fill the memory.
"""

from __future__ import annotations

from typing import NamedTuple

_MIB = 1024 * 1024


class Limit(NamedTuple):
    """what: is bounded, and where. error: what its sender gets."""

    most: int
    what: str
    error: str


LIMITS = {
    # ---- a client's request: all 400, except where another status is named
    "body": Limit(32 * _MIB, "bytes of a request's body", "413"),
    "bodies": Limit(256 * _MIB, "bytes of all bodies that are still on their way", "529, retry-after 2"),
    "values": Limit(500_000, "commas, braces and brackets of a request that is no text", "400"),
    "messages": Limit(20_000, "messages of a request", "400"),
    "blocks": Limit(24_000, "content blocks of a request, those inside tool results too", "400"),
    "tools": Limit(2_000, "tools of a request", "400"),
    "schema_values": Limit(50_000, "values in all the tools' schemas", "400"),
    "documents": Limit(100, "documents of a request that are read", "the model is told that one was left out"),
    "document_seconds": Limit(30, "seconds for all documents of a request", "the model is told which took too long"),
    "document_memory": Limit(512 * _MIB, "bytes of memory for reading a document", "the model is told"),
    "document_text": Limit(2 * _MIB, "characters of a document", "cut there"),
    # ---- an upstream's answer
    "interim": Limit(64, "interim answers (1xx) before an answer", "500"),
    "answer_headers": Limit(128, "headers of an answer", "500"),
    "event": Limit(16 * _MIB, "bytes of one server-sent event", "an error event"),
    "answer": Limit(64 * _MIB, "bytes of one answer that is gathered: its client did not ask for a stream", "500"),
    "small_answer": Limit(16 * _MIB, "bytes of an answer about slots, tokens or health", "as if there were none"),
    "error_text": Limit(2_000, "characters of an upstream's error that are read", "cut there"),
    "calls": Limit(1_000, "tool calls of one answer", "an error event"),
    "open_calls": Limit(64, "tool calls of one answer that are open at once", "an error event"),
    "arguments": Limit(4 * _MIB, "bytes of the arguments of one call", "an error event"),
    "call_extra": Limit(64 * 1024, "bytes that an upstream sends beside a call, to get them back", "left out"),
    "call_name": Limit(1_000, "characters of a call's name", "an error event"),
    # ---- what is kept of the Responses API
    "stored_responses": Limit(1_000, "responses that a later one may go on from", "the oldest is forgotten"),
    "stored_bytes": Limit(64 * _MIB, "bytes of all of them", "the oldest are forgotten"),
    # ---- searches and pages of the web
    "web_calls": Limit(8, "searches and pages at once", "the others wait, then `unavailable`"),
    "web_seconds": Limit(20, "seconds for a search", "`unavailable`"),
    "web_query": Limit(1_000, "characters of a query; Brave and Tavily take 400", "`query_too_long`"),
    "web_domains": Limit(200, "entries of a list of domains", "`invalid_tool_input`"),
    "web_answer": Limit(2 * _MIB, "bytes of a back end's answer", "`unavailable`"),
    "web_results": Limit(10, "results of a search", "cut there"),
    "web_title": Limit(200, "characters of a title", "cut there"),
    "web_snippet": Limit(1_000, "characters of a snippet", "cut there"),
    "web_url": Limit(2_000, "characters of an address", "a result is left out; `url_too_long` for a page"),
    "web_page_seconds": Limit(20, "seconds for a page, its redirects among them", "`url_not_accessible`"),
    "web_page": Limit(8 * _MIB, "bytes of a page, packed and unpacked", "`content_too_large`"),
    "web_page_text": Limit(200_000, "characters of a page's text", "cut there"),
    "web_redirects": Limit(5, "redirects of a page", "`url_not_accessible`"),
    # ---- connections to the proxy
    "connections": Limit(1_024, "connections at once, or fewer as open files allow", "the idlest is closed"),
    "handshakes": Limit(128, "connections at once that have not agreed on TLS yet", "it is closed"),
    "request_head": Limit(64 * 1024, "bytes of a request's head", "431"),
    "request_headers": Limit(200, "headers of a request", "431"),
}


def most(name: str) -> int:
    return LIMITS[name].most
