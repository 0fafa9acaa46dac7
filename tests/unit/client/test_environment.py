"""What Claude Code's environment is made of."""

from __future__ import annotations

import json

import pytest

from llmstack.catalog import overlay
from llmstack.catalog.profiles import Gateway, Profile, profiles
from llmstack.client.environment import OURS, ModelLimits, StackAccess, claude_environment
from llmstack.errors import BadInput

HERE = StackAccess("http://127.0.0.1:5000", "sk-token", "qwen")


def local(profile: Profile | None = None, limits: ModelLimits | None = None, **inherited: str) -> dict[str, str]:
    made = claude_environment(
        "local", profile or Profile(), inherited, stack=HERE, limits=limits or ModelLimits(65536, 8192)
    )
    return dict(made.variables)


def test_every_tier_has_the_deployed_model_and_numbers_come_from_the_server() -> None:
    made = local()
    assert {made[n] for n in made if n.endswith("_MODEL")} == {"qwen"}
    assert made["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "65536" and made["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "8192"
    assert made["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
    assert made["ANTHROPIC_AUTH_TOKEN"] == "sk-token"
    assert int(made["API_TIMEOUT_MS"]) > 300_000 and made["API_FORCE_IDLE_TIMEOUT"] == "0"


def test_an_unknown_context_is_not_made_up() -> None:
    made = local(limits=ModelLimits())
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in made and "CLAUDE_CODE_MAX_OUTPUT_TOKENS" not in made


def test_the_small_and_fast_model_follows_the_haiku_tier() -> None:
    made = local(Profile(model="big", haiku="tiny", subagents="mid"))
    assert made["ANTHROPIC_SMALL_FAST_MODEL"] == made["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "tiny"
    assert made["ANTHROPIC_MODEL"] == made["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "big"
    assert made["CLAUDE_CODE_SUBAGENT_MODEL"] == "mid"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "corp.internal, 10.0.0.0/8"}, "127.0.0.1,localhost,::1,corp.internal,10.0.0.0/8"),
        ({"no_proxy": "localhost,.corp"}, "127.0.0.1,localhost,::1,.corp"),
    ],
)
def test_no_proxy_is_extended_once(before: dict[str, str], after: str) -> None:
    made = local(**before)
    assert made["NO_PROXY"] == made["no_proxy"] == after
    assert local(**made)["NO_PROXY"] == after


def test_what_would_win_over_it_is_taken_away() -> None:
    made = claude_environment("local", Profile(), {}, stack=HERE)
    whole = made.over({"ANTHROPIC_API_KEY": "sk-ant", "CLAUDE_CODE_USE_BEDROCK": "1", "PATH": "/bin"})
    assert "ANTHROPIC_API_KEY" not in whole and "CLAUDE_CODE_USE_BEDROCK" not in whole and whole["PATH"] == "/bin"


def test_official_sets_nothing_and_takes_ours_away_but_not_the_account() -> None:
    made = claude_environment("official", Profile(gateway=Gateway.OFFICIAL), {})
    assert made.variables == {}
    whole = made.over({**local(), "ANTHROPIC_API_KEY": "sk-ant"})
    assert whole["ANTHROPIC_API_KEY"] == "sk-ant" and not set(whole) & set(OURS)


def test_bedrock_with_every_variable_of_its_guide() -> None:
    profile = Profile(
        gateway=Gateway.BEDROCK, base_url="https://gw:4000/bedrock", skip_auth=True, region="us-east-1",
        prompt_caching=False, model="arn:aws:bedrock:us-east-2:1:application-inference-profile/a", haiku="small",
    )  # fmt: skip
    made = claude_environment("b", profile, {}, key="gateway-key")
    expected = {
        "CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BEDROCK_BASE_URL": "https://gw:4000/bedrock",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1", "AWS_REGION": "us-east-1", "DISABLE_PROMPT_CACHING": "1",
        "ANTHROPIC_MODEL": "arn:aws:bedrock:us-east-2:1:application-inference-profile/a",
        "ANTHROPIC_SMALL_FAST_MODEL": "small", "ANTHROPIC_AUTH_TOKEN": "gateway-key",
    }  # fmt: skip
    assert expected.items() <= made.variables.items()
    assert "CLAUDE_CODE_USE_VERTEX" in made.removed and "ANTHROPIC_BASE_URL" in made.removed


def test_vertex_with_every_variable_of_its_guide() -> None:
    profile = Profile(
        gateway=Gateway.VERTEX, base_url="https://gw:4000/vertex_ai/v1", skip_auth=True, region="us-east5",
        project="my-project", headers={"Proxy-Authorization": "Bearer k"},
    )  # fmt: skip
    made = claude_environment("v", profile, {})
    expected = {
        "CLAUDE_CODE_USE_VERTEX": "1", "ANTHROPIC_VERTEX_BASE_URL": "https://gw:4000/vertex_ai/v1",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1", "CLOUD_ML_REGION": "us-east5",
        "ANTHROPIC_VERTEX_PROJECT_ID": "my-project", "ANTHROPIC_CUSTOM_HEADERS": "Proxy-Authorization: Bearer k",
    }  # fmt: skip
    assert expected.items() <= made.variables.items()
    assert "ANTHROPIC_AUTH_TOKEN" in made.removed  # the client's own Google token goes into Authorization


def test_vertex_without_a_project_is_told_before_anything_starts() -> None:
    with pytest.raises(BadInput, match="names no Google Cloud project"):
        claude_environment("vertex", Profile(gateway=Gateway.VERTEX), {})


def test_a_key_by_command_is_asked_for_again_and_never_an_environment_variable() -> None:
    profile = Profile(gateway=Gateway.ANTHROPIC, base_url="http://gw", token_command="vault read k", token_ttl_s=60)
    made = claude_environment("g", profile, {})
    assert made.variables["CLAUDE_CODE_API_KEY_HELPER_TTL_MS"] == "60000"
    assert made.settings == {"apiKeyHelper": "vault read k"}
    assert json.loads(made.arguments()[1]) == made.settings
    assert "ANTHROPIC_AUTH_TOKEN" in made.removed


def test_the_user_s_profile_merges_over_the_shipped_one_and_a_wrong_key_is_named() -> None:
    shipped = overlay.parse('[profiles.a]\nmodel = "x"\nregion = "r"\n', "shipped")
    merged = overlay.merge(shipped, overlay.parse('[profiles.a]\nmodel = "y"\n', "mine"))
    assert (profiles(merged)["a"].model, profiles(merged)["a"].region) == ("y", "r")
    with pytest.raises(BadInput, match=r"mine:2: unknown key profiles\.a\.modle"):
        profiles(overlay.merge(shipped, overlay.parse('[profiles.a]\nmodle = "y"\n', "mine")))


def test_auto_mode_is_off_where_nobody_could_answer_its_safety_check() -> None:
    made = claude_environment("local", Profile(), {}, stack=HERE)
    assert made.arguments() == ("--settings", '{"permissions": {"disableAutoMode": "disable"}}')
    assert made.arguments(["-p", "hi"]) == made.arguments()
    assert made.arguments(["--permission-mode", "auto"]) == made.arguments(["--settings={}"]) == ()


def test_the_tier_above_opus_goes_where_opus_goes() -> None:
    made = claude_environment("local", Profile(opus="big"), {}, stack=HERE).variables
    assert made["ANTHROPIC_DEFAULT_FABLE_MODEL"] == made["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "big"
