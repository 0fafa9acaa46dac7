"""Which way leads to an upstream: straight, or by the HTTP proxy that the environment names."""

from __future__ import annotations

import pytest

from llmstack.catalog.routes import parse
from llmstack.proxy.upstreams import proxy_for_url

WAY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("base_url", "environment", "way"),
    [
        ("https://api.example/v1", {"HTTPS_PROXY": WAY}, WAY),
        ("https://api.example/v1", {"https_proxy": WAY, "HTTPS_PROXY": "http://other:1"}, WAY),
        ("https://api.example/v1", {"ALL_PROXY": WAY}, WAY),
        ("https://api.example/v1", {"HTTP_PROXY": WAY}, None),
        ("https://api.example/v1", {"HTTPS_PROXY": WAY, "NO_PROXY": "example"}, None),
        ("https://api.example:8443/v1", {"HTTPS_PROXY": WAY, "NO_PROXY": "api.example:8443"}, None),
        ("https://api.example/v1", {"HTTPS_PROXY": WAY, "NO_PROXY": "*"}, None),
        ("https://api.example/v1", {}, None),
        ("http://127.0.0.1:11434/v1", {"HTTP_PROXY": WAY, "ALL_PROXY": WAY}, None),
        ("http://localhost:11434/v1", {"HTTP_PROXY": WAY}, None),
    ],
)
def test_the_environment_decides_for_upstreams_elsewhere(
    base_url: str, environment: dict[str, str], way: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shipped = f'[upstreams.far]\nkind = "openai"\nbase_url = "{base_url}"\n[[routes]]\nmatch = "*"\nupstream = "far"\n'
    choice = parse(shipped).choose("m")
    assert choice is not None
    assert proxy_for_url(choice.targets[0]) == way
