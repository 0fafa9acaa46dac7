"""Which addresses a page may come from."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.protocol.web.address import addresses_in, is_public, page_address
from llmstack.protocol.web.refusal import WebRefused


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1", "192.168.1.1",
        "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12::1",
        "ff02::1", "2001:db8::1", "100::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "192.88.99.1", "2001::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe", "4000::1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_public_internet_is_not_reached(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_the_public_internet_is(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_another_spelling_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    spellings = (0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x64FF9B << 96 | number)
    for spelling in spellings:
        assert is_public(ipaddress.IPv6Address(spelling)) <= is_public(address)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://a.example/", "url_not_allowed"),
        ("https:///x", "url_not_allowed"),
        ("https://user:word@a.example/", "url_not_allowed"),
        ("https://a.example\\@b.example/", "url_not_allowed"),
        ("https://a.example:22/", "url_not_allowed"),
        ("https://a.example:99999/", "url_not_allowed"),
        ("https://[fe80::1%25eth0]/", "url_not_allowed"),
        ("https://a.exa\u202emple/", "url_not_allowed"),
        ("https://[::1/", "url_not_allowed"),
        ("http://2130706433/", "url_not_allowed"),
        ("http://127.1/", "url_not_allowed"),
        ("http://0177.0.0.1/", "url_not_allowed"),
        ("http://1.2.3.4.5/", "url_not_allowed"),
        ("https://a.example/" + "x" * 2000, "url_too_long"),
    ],
)
def test_an_address_that_is_no_page_s_is_refused(url: str, code: str) -> None:
    with pytest.raises(WebRefused) as refused:
        page_address(url)
    assert refused.value.code == code


def test_an_address_has_one_spelling() -> None:
    address = page_address("HTTPS://BÜCHER.example:443/a?b=c#d")
    assert (address.url, address.host, address.port) == (
        "https://xn--bcher-kva.example/a?b=c", "xn--bcher-kva.example", 443,
    )  # fmt: skip
    assert page_address("http://[2606:4700::1]:8080/").url == "http://[2606:4700::1]:8080/"
    assert page_address("https://a.example").url == "https://a.example/"


def test_addresses_are_taken_out_of_a_sentence() -> None:
    text = "Read (https://a.example/x_(y)), then <http://b.example>. Again: https://a.example/x_(y)."
    assert addresses_in(text) == ["https://a.example/x_(y)", "http://b.example"]
    assert addresses_in("What does https://a.example/page?x=1, say?") == ["https://a.example/page?x=1"]
    assert addresses_in("nothing here") == []
    assert page_address("http://93.184.216.34/").literal is not None
