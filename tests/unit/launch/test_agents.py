"""How each agent is pointed at a stack."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from llmstack.client.environment import ClientEnvironment
from llmstack.errors import BadInput
from llmstack.launch.agents import AGENTS, TOKEN, PointFacts
from llmstack.launch.start import agent_of, environment_for, facts_of
from llmstack.paths import Home
from llmstack.render.launch import show_start

STACK = PointFacts("http://127.0.0.1:5000", "sk-secret", "my model", 65536, 8192, Path("/state/launch/x"))
UNKNOWN = PointFacts("http://127.0.0.1:5000", "sk-secret", "m", None, None, Path("/state/launch/x"))


@pytest.mark.parametrize("name", AGENTS)
def test_no_token_stands_in_an_argument_or_where_a_variable_can_be_named(name: str) -> None:
    """Cline reads its key from a file alone; every file of ours is its owner's to read."""
    pointed = AGENTS[name].point(STACK)
    assert (STACK.token in pointed.variables.values()) != (name == "cline")
    assert "sk-secret" not in str(pointed.arguments)
    assert ("sk-secret" in str(pointed.files)) == (name == "cline")
    inline = [value for key, value in pointed.variables.items() if value.startswith(("{", "["))]
    assert not any("sk-secret" in value for value in inline)


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_hears_of_the_model_and_of_numbers_only_where_they_are_known(name: str) -> None:
    said = str(AGENTS[name].point(STACK))
    assert "my model" in said
    assert (
        "65536" in said or "57344" in said or name in ("codex", "openhands", "gemini")
    )  # these learn it otherwise, or never
    assert "65536" not in str(AGENTS[name].point(UNKNOWN)) and "None" not in str(AGENTS[name].point(UNKNOWN).variables)


def test_codex_reads_its_settings_as_toml() -> None:
    arguments = AGENTS["codex"].point(STACK).arguments
    settings = dict(part.split("=", 1) for part in arguments[1::2])
    assert set(arguments[::2]) == {"-c"}
    for value in settings.values():
        tomllib.loads(f"x = {value}")
    assert settings["model_providers.llmstack.env_key"] == json.dumps(TOKEN)


def test_opencode_gets_one_provider_that_names_the_variable() -> None:
    settings = json.loads(AGENTS["opencode"].point(STACK).variables["OPENCODE_CONFIG_CONTENT"])
    provider = settings["provider"]["llmstack"]
    assert settings["model"] == "llmstack/my model"
    assert provider["options"] == {
        "baseURL": "http://127.0.0.1:5000/v1",
        "apiKey": "{env:LLMSTACK_TOKEN}",
        "timeout": 1_800_000,
    }
    assert provider["models"]["my model"]["limit"] == {"context": 65536, "output": 8192}


def test_a_file_of_ours_stands_where_the_agent_is_led_to() -> None:
    for name, agent in AGENTS.items():
        pointed = agent.point(STACK)
        named = [*pointed.variables.values(), *pointed.arguments]
        for file in pointed.files:
            assert any(value in (f"/state/launch/x/{file}", "/state/launch/x") for value in named), name


def test_the_token_is_shown_nowhere_in_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    for agent in AGENTS.values():
        pointed = agent.point(STACK)
        show_start(agent.program, pointed.arguments, pointed.variables, pointed.files, STACK.token)
    shown = capsys.readouterr().out
    assert "sk-secret" not in shown and shown.count("(the token)") == len(AGENTS)


def test_what_leads_elsewhere_is_taken_away_and_loopback_goes_past_a_proxy() -> None:
    inherited = {
        "OPENAI_API_KEY": "another's",
        "OPENAI_BASE_URL": "https://elsewhere",
        "NO_PROXY": "corp",
        "PATH": "/",
    }
    made = environment_for(AGENTS["codex"].point(STACK), inherited)
    assert "OPENAI_BASE_URL" not in made and "OPENAI_API_KEY" not in made and made["PATH"] == "/"
    assert made["NO_PROXY"].startswith("127.0.0.1") and made["NO_PROXY"].endswith("corp")


def test_the_stack_is_what_claude_code_would_be_told(tmp_path: Path) -> None:
    home = Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "k")
    given = {"ANTHROPIC_BASE_URL": "http://x", "ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_MODEL": "m"}
    facts = facts_of(home, "codex", ClientEnvironment({**given, "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "9"}, ()))
    assert facts == PointFacts("http://x", "t", "m", 9, None, tmp_path / "s" / "launch" / "codex")
    with pytest.raises(BadInput, match="does not lead to the stack"):
        facts_of(home, "codex", ClientEnvironment({"ANTHROPIC_MODEL": "m"}, ()))


@pytest.mark.parametrize(("name", "words"), [("opencod", "launch opencode"), ("claude", "claude"), ("vim", "launch")])
def test_a_name_that_is_none_is_answered_with_the_command_that_is(name: str, words: str) -> None:
    with pytest.raises(BadInput) as error:
        agent_of(name)
    assert error.value.next is not None and error.value.next.endswith(words)
