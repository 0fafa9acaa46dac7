"""Real LiteLLM behind this proxy (unified, chat, passed through) and before it, with Claude Code at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hosts import brain
from support.hosts.chat import Cerebras, OpenRouter
from support.hosts.clouds import Anthropic
from support.litellm import running
from support.stack import Stack

from .conftest import Client, Hosts, chats, store
from .test_upstreams import ask, found

pytestmark = pytest.mark.timeout(1800)  # the first one installs LiteLLM

MASTER = "sk-local-master"


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory, session_hosts: Hosts, session_stack: Stack) -> Iterator[str]:
    """`qwen-3-coder-480b` goes to Cerebras, `gpt-4o` to OpenRouter, `through-the-stack` to this stack's own proxy."""
    cerebras: dict[str, object] = {
        "model": f"cerebras/{Cerebras.MODEL}", "api_base": f"{session_hosts.cerebras.url}/v1", "api_key": Cerebras.KEY,
    }  # fmt: skip
    stack: dict[str, object] = {
        "model": f"anthropic/cerebras/{Cerebras.MODEL}", "api_base": session_stack.url, "api_key": session_stack.token,
    }  # fmt: skip
    router: dict[str, object] = {
        "model": "hosted_vllm/openai/gpt-4o", "api_base": f"{session_hosts.openrouter.url}/api/v1",
        "api_key": OpenRouter.KEY,
    }  # fmt: skip
    models = [
        {"model_name": "gpt-4o", "litellm_params": router},
        {"model_name": Cerebras.MODEL, "litellm_params": cerebras},
        {"model_name": "through-the-stack", "litellm_params": stack},
    ]
    with running(
        tmp_path_factory.mktemp("litellm"), "", models=models, LITELLM_MASTER_KEY=MASTER,
        ANTHROPIC_API_BASE=session_hosts.anthropic.url, ANTHROPIC_API_KEY=Anthropic.KEY,
    ) as url:  # fmt: skip
        yield url


@pytest.fixture
def led(stack: Stack, litellm: str) -> Stack:
    """The stack, its shipped LiteLLM upstreams and profiles at the running LiteLLM, with its key."""
    overlay = stack.root / "config" / "models.toml"
    text = overlay.read_text()
    for table, path in (
        ("upstreams.litellm", ""), ("upstreams.litellm-chat", "/v1"), ("upstreams.litellm-anthropic", "/anthropic"),
        ("profiles.litellm", ""), ("profiles.litellm-anthropic", "/anthropic"),
    ):  # fmt: skip
        text += f'[{table}]\nbase_url = "{litellm}{path}"\n'
    text += f'model = "claude-opus-4-8"\n[profiles.behind]\nmodel = "litellm-chat/{Cerebras.MODEL}"\n'
    overlay.write_text(text)
    store(stack, "litellm", MASTER)
    return stack


@pytest.mark.parametrize(
    ("upstream", "model"),
    [("litellm", "gpt-4o"), ("litellm-chat", Cerebras.MODEL), ("litellm-anthropic", "claude-opus-4-8")],
)
def test_behind_this_proxy(led: Stack, upstream: str, model: str) -> None:
    status, answer = ask(led, model=f"{upstream}/{model}", system=[{"type": "text", "text": "Be brief."}])
    assert status == 200 and answer["content"][0]["text"] == "hello from the host", answer
    tool = {"name": "read_file", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
    status, answer = ask(led, model=f"{upstream}/{model}", tools=[tool])
    assert status == 200 and answer["stop_reason"] == "tool_use", answer
    assert answer["content"][-1]["input"] == {"path": "notes.txt"}


def test_a_master_key_that_does_not_match_is_named(led: Stack) -> None:
    store(led, "litellm", "sk-local-other")
    assert "refuses the key" in found(led, "litellm", "--model", Cerebras.MODEL)["key"]["finding"]


def test_claude_code_s_sub_agent_through_litellm_to_cerebras_without_a_hook(client: Client, led: Stack) -> None:
    """LiteLLM's unified endpoint hands arrays on, which Cerebras refuses; this proxy's translation sends strings."""
    done = client.ask("delegate this", profile="behind")
    assert done.status == 0 and brain.PONG in done.out, (done.out, done.err)


def test_claude_code_straight_to_litellm_passed_through_to_anthropic(client: Client, led: Stack, hosts: Hosts) -> None:
    done = client.ask("say hello", profile="litellm-anthropic")
    assert done.status == 0 and "hello from the host" in done.out, (done.out, done.err)
    assert [a for a in hosts.anthropic.asked if a.headers.get("x-api-key") == Anthropic.KEY]


def test_litellm_before_this_proxy(led: Stack, hosts: Hosts, litellm: str, tmp_path: Path) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=litellm, api_key=MASTER, max_retries=0)
    answer = client.messages.create(
        model="through-the-stack", max_tokens=50, messages=[{"role": "user", "content": "say hello"}]
    )
    assert "hello from the host" in str(answer.content)
    assert answer.usage.input_tokens > 5 and chats(hosts.cerebras)
