"""What of an upstream's address may be shown."""

from __future__ import annotations

import pytest

from llmstack.catalog.routes import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("https://host.example/v1", "https://host.example/v1"),
        ("https://user:secret@host.example:8443/v1?x=a@b", "https://***@host.example:8443/v1?x=a@b"),
        ("https://secret@host.example", "https://***@host.example"),
        ("https://a@b:secret@host.example", "https://***@host.example"),
        ("https://host.example/@me", "https://host.example/@me"),
    ],
)
def test_a_password_inside_a_url_is_not_shown(url: str | None, shown: str | None) -> None:
    assert without_password(url) == shown
