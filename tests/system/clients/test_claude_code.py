"""The real Claude Code, started by `llmstack claude`, on every upstream and gateway that is shipped."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from support.hosts import brain
from support.hosts.chat import Cerebras, Ollama
from support.hosts.clouds import Anthropic
from support.stack import Stack

from .conftest import Client, Hosts, chats, store

QWEN = Cerebras.MODEL
LLMSTACK = (sys.executable, "-m", "llmstack")


def test_a_sub_agent_goes_out_and_its_result_comes_back(client: Client, hosts: Hosts) -> None:
    done = client.ask("delegate this", profile="cerebras")
    assert done.status == 0, done.err
    assert brain.PONG in done.out
    bodies = chats(hosts.cerebras)
    assert any("SUBAGENT: say pong" in json.dumps(body["messages"][1]) for body in bodies)
    main = next(body for body in reversed(bodies) if body["messages"][-1]["role"] == "tool")
    call = next(m for m in reversed(main["messages"]) if m.get("tool_calls"))["tool_calls"][0]
    assert call["function"]["name"] in ("Agent", "Task")
    assert main["messages"][-1]["tool_call_id"] == call["id"]


def test_cerebras_gets_strings_its_tools_and_one_model_for_every_tier(client: Client, hosts: Hosts) -> None:
    script = hosts.cerebras.script
    assert isinstance(script, Cerebras)
    done = client.ask("say hello", profile="cerebras")
    assert done.status == 0 and "hello from the host" in done.out, done.err
    assert not script.refused
    bodies = chats(hosts.cerebras)
    assert {body["model"] for body in bodies} == {QWEN}
    main = max(bodies, key=lambda body: len(body.get("tools", [])))
    assert len(main["tools"]) > 5 and all(isinstance(m["content"], str) for m in main["messages"])
    environment = client.stack.run("env", "--json", "--profile", "cerebras").json
    tiers = [v for k, v in environment.items() if k.endswith("_MODEL")]
    assert tiers == [f"cerebras/{QWEN}"] * 6  # the small and fast one too, and the one above opus


def test_continue_finds_what_was_said(client: Client, hosts: Hosts) -> None:
    assert client.ask("remember violet", profile="cerebras").status == 0
    hosts.cerebras.asked.clear()
    done = client.ask("which colour?", "--continue", profile="cerebras")
    assert done.status == 0 and "a colour" in done.out, done.err
    assert any("remember violet" in json.dumps(body["messages"]) for body in chats(hosts.cerebras))


def test_usage_and_context_are_the_upstream_s(client: Client, hosts: Hosts) -> None:
    done = client.ask("say hello", "--output-format", "json", profile="cerebras")
    result = json.loads(done.out)
    counted = max(
        len(json.dumps([b["messages"], b.get("tools")], ensure_ascii=False)) // 4 for b in chats(hosts.cerebras)
    )
    assert result["usage"]["input_tokens"] == pytest.approx(counted, abs=2)
    assert result["usage"]["output_tokens"] == 12
    assert result["modelUsage"][f"cerebras/{QWEN}"]["contextWindow"] == 131072


def test_arguments_and_the_exit_status_are_passed_on(client: Client) -> None:
    version = client.run([*LLMSTACK, "claude", "--", "--version"])
    assert version.status == 0 and "Claude Code" in version.out
    wrong = client.run([*LLMSTACK, "claude", "--", "--no-such-option"])
    assert wrong.status == 1 and "no-such-option" in wrong.err


def test_a_wrong_key_is_named_at_once(client: Client, hosts: Hosts) -> None:
    store(client.stack, "cerebras", "csk-expired")
    began = time.monotonic()
    done = client.ask("say hello", profile="cerebras")
    assert done.status == 1
    assert "cerebras refused the key of this stack: Wrong API Key" in done.out + done.err
    assert time.monotonic() - began < 30  # Claude Code by itself asks ten times, for three minutes


def test_a_missing_key_says_how_to_add_it(client: Client, stack: Stack) -> None:
    (stack.root / "config" / "keys" / "cerebras").unlink()
    done = client.ask("say hello", profile="cerebras")
    assert done.status == 1 and "llmstack upstream add cerebras" in done.out + done.err


def test_a_key_rotated_under_the_running_proxy_is_used_for_the_next_request(client: Client, hosts: Hosts) -> None:
    assert client.ask("say hello", profile="cerebras").status == 0
    hosts.cerebras.script = Cerebras(key="csk-rotated")
    store(client.stack, "cerebras", "csk-rotated")
    assert "hello from the host" in client.ask("say hello", profile="cerebras").out


def test_a_rotated_token_is_taken_and_the_old_one_refused(client: Client, stack: Stack) -> None:
    token = stack.root / "state" / "token"
    old = token.read_text()
    fresh = token.with_name("token.new")
    fresh.touch(mode=0o600)
    fresh.write_text("sk-llmstack-rotated\n")
    try:
        fresh.replace(token)
        assert "hello from the host" in client.ask("say hello", profile="cerebras").out
        done = client.plain(
            "hi", ANTHROPIC_BASE_URL=stack.url, ANTHROPIC_AUTH_TOKEN=old.strip(), ANTHROPIC_MODEL="demo"
        )
        assert done.status == 1 and "the token is wrong; `llmstack token` prints the one" in done.out + done.err
    finally:
        token.write_text(old)


@pytest.mark.parametrize("where", ["user", "project"])
def test_settings_lead_plain_claude_here_with_a_token_by_helper(client: Client, where: str) -> None:
    user = ["--user"] if where == "user" else []
    folder = client.home if user else client.work
    file = folder / ".claude" / ("settings.json" if user else "settings.local.json")
    wrote = client.run([*LLMSTACK, "claude-settings", *user, "--profile", "cerebras", "--ttl", "1"])
    assert wrote.status == 0, wrote.err
    assert client.stack.token not in file.read_text()
    done = client.plain("say hello")
    assert done.status == 0 and "hello from the host" in done.out, (done.out, done.err)
    assert client.run([*LLMSTACK, "claude-settings", *user, "--undo"]).status == 0
    assert not file.exists()


def test_ollama_with_a_context_of_its_own(client: Client, hosts: Hosts, stack: Stack) -> None:
    script = hosts.ollama.script
    assert isinstance(script, Ollama)
    added = stack.run(
        "upstream",
        "add",
        "ollama",
        "--model",
        "qwen3:1.7b",
        "--context",
        "65536",
        "--base-url",
        hosts.ollama.url + "/v1",
    )
    assert added.status == 2  # the user's own table stands there: not overwritten
    _drop_table(stack, "ollama")
    added = stack.run(
        "upstream",
        "add",
        "ollama",
        "--model",
        "qwen3:1.7b",
        "--context",
        "65536",
        "--base-url",
        hosts.ollama.url + "/v1",
    )
    assert added.status == 0, added.err
    assert script.models["qwen3:1.7b-64k"] == 65536
    done = client.ask("say hello", "--output-format", "json", profile="ollama")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert result["result"] == "hello from the host" and result["usage"]["input_tokens"] > 5000
    assert script.cut == 0
    assert result["modelUsage"]["ollama/qwen3:1.7b-64k"]["contextWindow"] == 65536


def test_ollama_s_web_search_is_refused_clearly_and_the_answer_goes_on(
    client: Client, hosts: Hosts, stack: Stack
) -> None:
    _ollama(stack, hosts, 65536)
    done = client.ask("search the web", profile="ollama", ENABLE_TOOL_SEARCH="false")
    assert done.status == 0, done.err
    assert "web_search is not available" in done.out or "unavailable" in done.out, done.out
    assert "Cannot specify both" not in done.out


def test_official_anthropic_gets_the_request_as_it_is(client: Client, hosts: Hosts, stack: Stack) -> None:
    overlay = stack.root / "config" / "models.toml"
    overlay.write_text(
        overlay.read_text()
        + '\n[[routes]]\nmatch = "claude-*"\nupstream = "anthropic"\n[profiles.cloud]\nmodel = "claude-opus-4-8"\n'
    )
    done = client.ask("delegate this", profile="cloud")
    assert done.status == 0 and brain.PONG in done.out, done.err
    asked = [a for a in hosts.anthropic.asked if a.method == "POST"]
    assert all(a.headers["x-api-key"] == Anthropic.KEY and "authorization" not in a.headers for a in asked)
    assert asked[0].json["model"] == "claude-opus-4-8" and asked[0].path.startswith("/v1/messages?beta=true")


def test_a_tier_that_is_routed_goes_where_it_is_routed_and_the_rest_stays(
    client: Client, hosts: Hosts, stack: Stack
) -> None:
    """The recipe of docs/routing.md: no profile, only a route."""
    (stack.root / "config" / "models.toml").write_text(
        hosts.overlay() + '\n[[routes]]\nmatch = "claude-opus-*"\nupstream = "anthropic"\n'
    )
    done = client.ask("say hello", "--model", "opus", "--max-turns", "1")
    assert done.status == 0, done.err
    asked = [json.loads(a.body) for a in hosts.anthropic.asked if a.method == "POST"]
    assert asked and {body["model"][:12] for body in asked} == {"claude-opus-"}


@pytest.mark.parametrize("profile", ["bedrock", "vertex", "litellm-bedrock", "litellm-vertex"])
def test_a_cloud_by_gateway_with_every_variable(client: Client, hosts: Hosts, stack: Stack, profile: str) -> None:
    overlay = stack.root / "config" / "models.toml"
    cloud = profile.removeprefix("litellm-")
    host = hosts.bedrock if cloud == "bedrock" else hosts.vertex
    models = {
        "bedrock": ("us.anthropic.claude-opus-4-20250514-v1:0", "us.anthropic.claude-3-5-haiku-20241022-v1:0"),
        "vertex": ("claude-3-7-sonnet@20250219", "claude-3-5-haiku@20241022"),
    }[cloud]
    path = {"bedrock": "", "vertex": "/v1", "litellm-bedrock": "/bedrock", "litellm-vertex": "/vertex_ai/v1"}[profile]
    said = f'base_url = "{host.url}{path}"\nskip_auth = true\nproject = "a-project"\nprompt_caching = false\n'
    said += f'model = "{models[0]}"\nhaiku = "{models[1]}"\ntoken_file = "keys/gateway"\n'
    overlay.write_text(f"[profiles.{profile}]\n{said}")
    store(stack, "gateway", "key-of-the-gateway")
    done = client.ask("delegate this", profile=profile)
    assert done.status == 0 and brain.PONG in done.out, (done.out, done.err)
    asked = [a for a in host.asked if a.method == "POST"]
    assert all(a.headers["authorization"] == "Bearer key-of-the-gateway" for a in asked)
    assert asked[0].path.startswith(path) and models[0].partition("@")[0].partition(":")[0] in asked[0].path
    assert "cache_control" not in asked[0].body.decode()
    if cloud == "vertex":
        assert "/projects/a-project/locations/us-east5/" in asked[0].path


def test_the_official_profile_takes_this_stack_away(client: Client, stack: Stack) -> None:
    own = stack.run("env", "--json").json
    done = client.run([*LLMSTACK, "claude", "--profile", "official", "--", "-p", "hi"], **own, ANTHROPIC_API_KEY="")
    assert done.status == 1 and "login" in (done.out + done.err).lower()


def test_no_claude_says_how_to_install_it(client: Client, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = client.run([*LLMSTACK, "claude"], PATH=str(empty))
    assert done.status == 3
    assert "Claude Code is not installed" in done.err and "npm install -g @anthropic-ai/claude-code" in done.err


def test_an_overflow_goes_to_the_cloud_only_when_told_to(client: Client, hosts: Hosts, stack: Stack) -> None:
    overlay = stack.root / "config" / "models.toml"
    small = '\n[[routes]]\nmatch = "small"\nupstream = "ollama"\nmodel = "qwen3:1.7b"\ncontext = 4096\n'
    overlay.write_text(overlay.read_text() + small + '[profiles.small]\nmodel = "small"\ncontext = 131072\n')
    refused = client.ask("say hello", profile="small")
    assert refused.status == 1 and "too long" in (refused.out + refused.err).lower(), refused.out
    assert not chats(hosts.cerebras)
    chain = small.replace("[[routes]]", '[[routes]]\nfallback = ["cerebras-big"]')
    big = f"""
[upstreams.cerebras-big]
kind = "openai"
base_url = "{hosts.cerebras.url}/v1"
api_key_file = "keys/cerebras"
model = "{QWEN}"
max_tokens_field = "max_completion_tokens"
replay_reasoning = false
thinking = "none"
"""
    overlay.write_text(overlay.read_text().replace(small, chain) + big)
    done = client.ask("say hello", profile="small")
    assert done.status == 0 and "hello from the host" in done.out, (done.out, done.err)
    assert chats(hosts.cerebras)
    shown = stack.run("logs", "proxy", "-n", "50").out
    assert "small by cerebras-big" in shown and "ollama->cerebras-big: overflow" in shown


def test_offline_refuses_what_would_leave_the_machine(client: Client, stack: Stack) -> None:
    overlay = stack.root / "config" / "models.toml"
    overlay.write_text('[profiles.cloud]\nmodel = "cerebras/x"\n')
    assert stack.run("upstream", "offline", "on").status == 0
    done = client.ask("say hello", profile="cloud")
    assert done.status == 1
    assert "cerebras is not on this machine" in done.out + done.err


def _drop_table(stack: Stack, name: str) -> None:
    overlay = stack.root / "config" / "models.toml"
    kept, skip = [], False
    for line in overlay.read_text().splitlines():
        if line.startswith("["):
            skip = line == f"[upstreams.{name}]"
        if not skip:
            kept.append(line)
    overlay.write_text("\n".join(kept) + "\n")


def _ollama(stack: Stack, hosts: Hosts, context: int) -> None:
    _drop_table(stack, "ollama")
    added = stack.run(
        "upstream",
        "add",
        "ollama",
        "--model",
        "qwen3:1.7b",
        "--context",
        str(context),
        "--base-url",
        hosts.ollama.url + "/v1",
    )
    assert added.status == 0, added.err
