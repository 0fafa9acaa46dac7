"""Before Claude Code waits for minutes: whether somebody listens where a profile leads."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from llmstack.client.reachable import unreachable
from llmstack.paths import Home
from support.wait import free_port

MODELS = """
[upstreams.box]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
[profiles.box]
model = "box/big"
[profiles.past]
gateway = "anthropic"
base_url = "http://127.0.0.1:{port}"
token_file = "{token}"
[profiles.two]
model = "either"
[[routes]]
match = "either"
upstream = "box"
fallback = ["local"]
"""


def home_for(tmp_path: Path, port: int) -> Home:
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache"))).make()
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    home.catalog.parent.mkdir(parents=True, exist_ok=True)
    home.catalog.write_text(MODELS.format(port=port, token=token))
    return home


def test_an_upstream_that_does_not_run_is_said_with_its_address_and_the_next_command(tmp_path: Path) -> None:
    port = free_port()
    sentence = unreachable(home_for(tmp_path, port), "box")
    assert f"nothing answers at http://127.0.0.1:{port}" in sentence and "upstream test box" in sentence


def test_one_that_listens_is_not_spoken_of_nor_one_that_another_stands_in_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert unreachable(home_for(tmp_path, server.getsockname()[1]), "box") == ""
    assert unreachable(home_for(tmp_path, free_port()), "two") == ""


def test_behind_an_http_proxy_nobody_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = home_for(tmp_path, free_port())
    home.catalog.write_text(home.catalog.read_text().replace("127.0.0.1", "host.example"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert unreachable(home, "box") == ""


def test_a_gateway_past_the_proxy_is_looked_at_too(tmp_path: Path) -> None:
    port = free_port()
    assert f"http://127.0.0.1:{port}" in unreachable(home_for(tmp_path, port), "past")
