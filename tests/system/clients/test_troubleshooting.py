"""Each symptom of the troubleshooting table, provoked: the error or `doctor` names cause and remedy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from support.hosts.chat import Cerebras
from support.stack import Stack

from .conftest import Client, Hosts

LLMSTACK = (sys.executable, "-m", "llmstack")


def findings(client: Client, *options: str, **environment: str) -> dict[str, list[dict[str, str]]]:
    ran = client.run([*LLMSTACK, "doctor", "--json", *options], **environment)
    found: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(ran.out)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def bad(checks: list[dict[str, str]]) -> list[dict[str, str]]:
    return [check for check in checks if check["status"] == "fail"]


def test_401_a_token_that_does_not_match(client: Client) -> None:
    wrong = {"ANTHROPIC_BASE_URL": client.stack.url, "ANTHROPIC_AUTH_TOKEN": "sk-local", "ANTHROPIC_MODEL": "demo"}
    done = client.plain("hi", **wrong)
    assert done.status == 1 and "the token is wrong" in done.out + done.err
    assert "llmstack token" in done.out + done.err
    [check] = bad(findings(client, **wrong)["client environment"])
    assert "not this stack's token" in check["finding"] and "llmstack env" in check["remedy"]


def test_connection_error_nothing_deployed_stopped_and_started_again(
    stack_home: Stack, claude_code: Path, tmp_path: Path
) -> None:
    client = Client(claude_code, stack_home, tmp_path / "home", tmp_path / "work")
    never = client.run([*LLMSTACK, "claude"])
    assert never.status == 1 and "nothing is deployed yet" in never.err and "up --demo" in never.err
    stack_home.up()
    assert stack_home.run("down").status == 0
    stopped = client.run([*LLMSTACK, "claude", "--no-start"])
    assert stopped.status == 1 and "the stack is stopped" in stopped.err and "llmstack up" in stopped.err
    started = client.run([*LLMSTACK, "claude", "--", "--version"])
    assert started.status == 0 and "Claude Code" in started.out
    assert stack_home.run("status", "--json").json["state"] == "ready"


def test_an_http_proxy_that_takes_127_0_0_1(client: Client) -> None:
    proxied = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    done = client.ask("say hello", profile="cerebras", **proxied)
    assert done.status == 0 and "hello from the host" in done.out, done.err
    [check] = bad(findings(client, **proxied)["NO_PROXY"])
    assert "does not cover 127.0.0.1" in check["finding"] and "NO_PROXY" in check["remedy"]


def test_sub_agents_that_never_start(client: Client) -> None:
    """The demo model says its sentence whatever tools it is offered."""
    tested = client.run([*LLMSTACK, "upstream", "test", "local"])
    assert tested.status == 1
    assert "no tool call came back" in tested.out and "next: choose a model that can call tools" in tested.out


def test_background_calls_have_a_model_whatever_tier_they_ask_for(client: Client, hosts: Hosts) -> None:
    routes = findings(client)["routes"]
    assert len(routes) >= 2 and not bad(routes)
    answered = client.ask("say hello", "--model", "haiku", profile="cerebras")
    assert answered.status == 0 and "hello from the host" in answered.out


def test_model_not_found_is_told_with_the_upstream_s_words(client: Client) -> None:
    overlay = client.stack.root / "config" / "models.toml"
    overlay.write_text(overlay.read_text() + '[profiles.wrong]\nmodel = "cerebras/qwen-3-koder"\n')
    done = client.ask("say hello", profile="wrong")
    assert done.status == 1 and "cerebras does not know this model" in done.out + done.err
    tested = client.stack.run("upstream", "test", "cerebras", "--model", "qwen-3-koder")
    assert tested.status == 1 and Cerebras.MODEL in tested.out
