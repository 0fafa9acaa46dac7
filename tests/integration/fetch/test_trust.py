"""Where a download may be redirected to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from llmstack.errors import NotSo
from llmstack.fetch import resolve
from llmstack.fetch.transfer import Remote, fetch
from llmstack.fetch.trust import may_send_token, refusal
from llmstack.paths import Home
from support.hub import HubServer, hub_server
from support.model_bytes import model_bytes

NAMES = {
    "mirror.example": ["93.184.216.34"],
    "cdn.mirror.example": ["93.184.216.35"],
    "inside.example": ["10.0.0.7"],
    "other.example": ["93.184.216.36"],
    "cdn-lfs.hf.co": ["13.35.1.1"],
    "cas-bridge.xethub.hf.co": ["13.35.1.2"],
    "huggingface.co": ["13.35.1.3"],
}


def resolve_name(host: str) -> Iterable[str]:
    return NAMES.get(host, [])


@pytest.mark.parametrize(
    ("source", "target", "hub", "allowed"),
    [
        ("https://huggingface.co/a", "https://cas-bridge.xethub.hf.co/b", True, True),
        ("https://huggingface.co/a", "https://cdn-lfs.hf.co/b", True, True),
        ("https://mirror.example/a", "https://cdn-lfs.hf.co/b", True, True),
        ("https://mirror.example/a", "https://cdn.mirror.example/b", True, True),
        ("https://huggingface.co/a", "https://other.example/b", True, False),
        ("https://huggingface.co/a", "https://evilhf.co/b", True, False),
        ("https://huggingface.co/a", "https://huggingface.co.evil.example/b", True, False),
        ("https://huggingface.co/a", "http://huggingface.co/b", True, False),
        ("https://huggingface.co/a", "https://user@huggingface.co/b", True, False),
        ("https://huggingface.co/a", "file:///etc/passwd", True, False),
        ("https://other.example/a", "https://mirror.example/b", False, True),
        ("https://other.example/a", "https://127.0.0.1/b", False, False),
        ("https://other.example/a", "https://169.254.169.254/latest/meta-data", False, False),
        ("https://other.example/a", "https://[::1]/b", False, False),
        ("https://other.example/a", "https://localhost/b", False, False),
        ("https://other.example/a", "https://printer.local/b", False, False),
        ("https://other.example/a", "https://inside.example/b", False, False),
        ("http://127.0.0.1:5001/a", "http://127.0.0.1:5001/b", True, True),
        ("http://127.0.0.1:5001/a", "http://127.0.0.1:22/b", True, False),
    ],
)
def test_redirects_are_judged(source: str, target: str, hub: bool, allowed: bool) -> None:
    assert (refusal(source, target, hub=hub, resolve=resolve_name) == "") is allowed


def test_a_host_the_user_allowed_is_followed() -> None:
    reason = refusal(
        "https://a.example/x", "https://inside.example/y", hub=True, extra=["inside.example"], resolve=resolve_name
    )
    assert reason == ""


def test_the_token_goes_to_its_endpoint_only() -> None:
    assert may_send_token("https://huggingface.co", "https://huggingface.co/a/b")
    assert not may_send_token("https://huggingface.co", "https://cdn-lfs.hf.co/a")
    assert not may_send_token("https://huggingface.co", "http://huggingface.co/a")
    assert not may_send_token("http://127.0.0.1:1", "http://127.0.0.1:2/a")


def test_a_redirect_to_a_forbidden_host_is_refused_before_it_is_asked(home: Home, hub: HubServer) -> None:
    with hub_server({"Tiny-Q4_K_M.gguf": model_bytes(1000)}) as elsewhere:
        hub.faults.redirect = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/content/Tiny-Q4_K_M.gguf"
        with pytest.raises(NotSo, match="redirected to localhost, which is refused"):
            resolve(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf")
        assert elsewhere.requests == []
    assert not list(home.models.rglob("*.gguf"))


def test_a_token_is_not_sent_on_with_a_redirect(home: Home, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_server(hub.files) as elsewhere:
        hub.faults.redirect = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/content/Tiny-Q4_K_M.gguf"
        resolve(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf", allow_hosts=["localhost"])
        assert elsewhere.requests
        assert all("authorization" not in headers for _, _, headers in elsewhere.requests)
    assert any(headers.get("authorization") == "Bearer hf_secret" for _, _, headers in hub.requests)
    record = next(home.models.rglob(".*.json")).read_text()
    assert "hf_secret" not in record


def test_endless_redirects_end(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.redirect = f"{hub.url}/maker/tiny/resolve/main/Tiny-Q4_K_M.gguf"
    remote = Remote(f"{hub.url}/maker/tiny/resolve/main/Tiny-Q4_K_M.gguf", "Tiny-Q4_K_M.gguf")
    with pytest.raises(NotSo, match="more than 5 redirects"):
        fetch(remote, tmp_path / "x.gguf")
