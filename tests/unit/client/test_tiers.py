"""Opus, sonnet and haiku go out as the user routed them."""

from __future__ import annotations

import pytest

from llmstack.catalog.profiles import Profile
from llmstack.catalog.routes import parse
from llmstack.client.environment import StackAccess, claude_environment
from llmstack.client.tiers import NAMES, routed_tiers
from llmstack.paths import resource

SHIPPED = resource("models.toml").read_text()
HERE = StackAccess("http://127.0.0.1:5000", "sk-token", "qwen")


def routes(*globs: str, upstream: str = "anthropic") -> str:
    return "".join(f'[[routes]]\nmatch = "{glob}"\nupstream = "{upstream}"\n' for glob in globs)


def test_without_routes_of_the_user_s_own_no_tier_has_a_name() -> None:
    assert routed_tiers(parse(SHIPPED)) == {}
    assert routed_tiers(parse(SHIPPED, routes("*"))) == {}
    assert routed_tiers(parse(SHIPPED, routes("qwen*", "big"))) == {}


@pytest.mark.parametrize(
    ("glob", "tiers"),
    [
        ("claude-opus-*", {"opus"}),
        ("*opus*", {"opus"}),
        ("claude-haiku-4-5", {"haiku"}),
        ("claude-*", {"opus", "sonnet", "haiku"}),
        ("claude-opus-9*", {"opus"}),
        ("claude-sonnet-?-?", {"sonnet"}),
        ("sonnet", {"sonnet"}),
    ],
)
def test_a_routed_tier_goes_out_under_a_name_that_its_route_takes(glob: str, tiers: set[str]) -> None:
    routing = parse(SHIPPED, routes(glob))
    names = routed_tiers(routing)
    assert set(names) == tiers
    for name in names.values():
        choice = routing.choose(name)
        assert choice is not None and choice.targets[0].name == "anthropic"


def test_each_tier_goes_where_the_first_route_for_it_leads() -> None:
    text = routes("claude-opus-*") + routes("claude-*", upstream="cerebras") + routes("*haiku*")
    routing = parse(SHIPPED, text)
    where = {}
    for tier, name in routed_tiers(routing).items():
        choice = routing.choose(name)
        assert choice is not None
        where[tier] = choice.targets[0].name
    assert where == {"opus": "anthropic", "sonnet": "cerebras", "haiku": "cerebras"}


def test_the_main_model_stays_and_the_small_and_fast_one_follows_haiku() -> None:
    tiers = {"opus": NAMES["opus"][0], "haiku": NAMES["haiku"][0]}
    made = claude_environment("local", Profile(), {}, stack=HERE, tiers=tiers).variables
    assert made["ANTHROPIC_MODEL"] == made["ANTHROPIC_DEFAULT_SONNET_MODEL"] == "qwen"
    assert made["ANTHROPIC_DEFAULT_OPUS_MODEL"] == tiers["opus"]
    assert made["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == made["ANTHROPIC_SMALL_FAST_MODEL"] == tiers["haiku"]


def test_what_a_profile_says_itself_comes_before_the_routes() -> None:
    profile = Profile(model="cerebras/x", haiku="h")
    made = claude_environment("p", profile, {}, stack=HERE, tiers={"opus": "o", "haiku": "i"}).variables
    assert made["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "cerebras/x" and made["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "h"
