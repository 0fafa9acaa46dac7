"""Lists of domains, by whole labels of the host and by whole parts of the path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.protocol.web.domains import domain_rules
from llmstack.protocol.web.refusal import WebRefused

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?\Z", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PART = st.from_regex(r"[A-Za-z0-9_-]{1,8}\Z", fullmatch=True)
PATH = st.lists(PART, max_size=4).map("/".join)


@pytest.mark.parametrize(
    ("entry", "url", "covered"),
    [
        ("example.com", "https://example.com/", True),
        ("example.com", "https://docs.example.com/x", True),
        ("example.com", "https://EXAMPLE.com.:8443/x", True),
        ("example.com", "https://notexample.com/", False),
        ("example.com", "https://example.com.evil.org/", False),
        ("example.com", "https://evil.org/example.com", False),
        ("docs.example.com", "https://example.com/", False),
        ("example.com/blog", "https://example.com/blog/1", True),
        ("example.com/blog", "https://example.com/blog?x=1", True),
        ("example.com/blog", "https://example.com/blogger", False),
        ("example.com/blog", "https://example.com/x/../blog/1", True),
        ("example.com/blog", "https://example.com//%62log", True),
        ("example.com/blog/", "https://example.com/blog", True),
        ("example.com/*", "https://example.com/anything", True),
        ("example.com/*/articles", "https://example.com/a/b/articles/1", True),
        ("example.com/*/articles", "https://example.com/articles", False),
        ("bücher.example", "https://xn--bcher-kva.example/", True),
        ("xn--bcher-kva.example", "https://bücher.example/", True),
    ],
)
def test_what_an_entry_covers(entry: str, url: str, covered: bool) -> None:
    assert domain_rules([entry], None).permit(url) is covered
    assert domain_rules(None, [entry]).permit(url) is not covered


@pytest.mark.parametrize(
    "value",
    [
        ["https://a.example"], ["a.example:80"], ["*.a.example"], ["a.example/*/b/*"], [""], ["/"], ["a b"], [7],
        [None], "a.example", {"a": 1}, 7, ["a.example?x"], ["x" * 400], ["a.example"] * 201, ["u@a.example"], ["[::1]"],
    ],
)  # fmt: skip
def test_what_is_no_list_of_domains_is_refused(value: Any) -> None:
    for lists in ((value, None), (None, value)):
        with pytest.raises(WebRefused) as refused:
            domain_rules(*lists)
        assert refused.value.code == "invalid_tool_input"


def test_both_lists_at_once_are_refused_and_empty_ones_are_none() -> None:
    with pytest.raises(WebRefused, match="together"):
        domain_rules(["a.example"], ["b.example"])
    for empty in ([], None):
        assert domain_rules(empty, []).permit("https://anything.example/")


@given(host=HOST, below=HOST, path=PATH)
def test_a_host_and_every_host_below_it_are_covered_whatever_the_path(host: str, below: str, path: str) -> None:
    rules = domain_rules([host], None)
    assert rules.permit(f"https://{host}/{path}") and rules.permit(f"http://{below}.{host}/{path}")
    assert not rules.permit(f"https://{below}{host}x/{path}")


@given(host=HOST, label=LABEL)
def test_a_longer_label_is_another_host(host: str, label: str) -> None:
    assert not domain_rules([host], None).permit(f"https://{label}{host}/") or f"{label}{host}".endswith(f".{host}")


@given(host=HOST, path=PATH.filter(bool), more=PATH.filter(bool), word=PART)
def test_a_path_covers_itself_and_what_is_below_it(host: str, path: str, more: str, word: str) -> None:
    rules = domain_rules([f"{host}/{path}"], None)
    assert rules.permit(f"https://{host}/{path}") and rules.permit(f"https://{host}/{path}/{more}")
    assert not rules.permit(f"https://{host}/{path}{word}") and not rules.permit(f"https://{host}/")


@given(entry=st.text(max_size=40), url=st.from_regex(r"https?://[a-z.]{1,20}/[ -~]{0,30}", fullmatch=True))
def test_no_text_makes_it_fall(entry: str, url: str) -> None:
    try:
        domain_rules([entry], None).permit(url)
    except WebRefused as refused:
        assert refused.code == "invalid_tool_input"
