"""The environment for Claude Code: what to set, what to take away, and which arguments to add.

Numbers come from what is deployed and from the upstream that answers, never from a constant. Each variable and its
effect was observed on the real client; docs/claude-code.md has the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmstack.catalog.profiles import Gateway, Profile
from llmstack.errors import BadInput

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MARK = "LLMSTACK_PROFILE"  # says which profile a shell's environment came from
_TIERS = ("ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL")
_FABLE = "ANTHROPIC_DEFAULT_FABLE_MODEL"  # the tier above opus: it goes where opus goes
# From 2.1.283 on its terminal starts in auto mode, whose safety check only Anthropic's servers answer: on any other one
# each action that needs it stops at a notice. Other modes of the user's choice stay.
NO_AUTO_MODE = {"disableAutoMode": "disable"}
# What Claude Code gives up on, by default after five minutes: a local prefill may take longer than that.
_PATIENCE = {
    "API_TIMEOUT_MS": "3000000",
    "API_FORCE_IDLE_TIMEOUT": "0",
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "1800000",
}
_QUIET = {
    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # three bytes that change with each session, at the front of the prompt
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
}
# Everything an environment of ours can set, besides NO_PROXY and a profile's own `env`.
OURS = (
    "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL", *_TIERS, _FABLE, "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", *_QUIET, *_PATIENCE,
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "ANTHROPIC_BEDROCK_BASE_URL", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "ANTHROPIC_VERTEX_BASE_URL", "ANTHROPIC_VERTEX_PROJECT_ID", "CLOUD_ML_REGION", "DISABLE_PROMPT_CACHING", MARK,
)  # fmt: skip
# Set by a login or for another gateway, these would win over the variables above.
CONFLICTING = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE")


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Of the model that answers. Tokens; None where nobody says."""

    context: int | None = None
    max_output: int | None = None


@dataclass(frozen=True, slots=True)
class StackAccess:
    """What a profile that leads to this proxy needs to know of it. model: the deployed one."""

    url: str
    token: str
    model: str


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """variables in the order they are shown; removed: names that must not be set. settings: of Claude Code, for this
    start; its permissions are those among them that the user's own arguments may replace."""

    variables: Mapping[str, str]
    removed: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, given: Sequence[str] = ()) -> tuple[str, ...]:
        """For `claude`, before those that the user has given."""
        named = {argument.partition("=")[0] for argument in given}
        settings = dict(self.settings)
        if named & {"--permission-mode", "--settings", "--dangerously-skip-permissions"}:
            settings.pop("permissions", None)
        return ("--settings", json.dumps(settings)) if settings else ()

    def over(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """A process's whole environment."""
        rest = {name: value for name, value in inherited.items() if name not in self.removed}
        return rest | dict(self.variables)


def claude_environment(
    name: str,
    profile: Profile,
    inherited: Mapping[str, str],
    *,
    stack: StackAccess | None = None,
    limits: ModelLimits | None = None,
    key: str | None = None,
    tiers: Mapping[str, str] = {},
) -> ClientEnvironment:
    """stack: needed for a profile that leads to it. key: the profile's fixed key, read. limits: of its model.

    tiers: the names that opus, sonnet and haiku go out under where neither the profile nor its model says.

    Raises BadInput for a Vertex profile without a project.
    """
    if profile.gateway is Gateway.OFFICIAL:
        return ClientEnvironment(dict(profile.env), tuple(n for n in OURS if n not in profile.env))
    if profile.gateway is Gateway.VERTEX and profile.project is None:
        raise BadInput(
            f"the profile {name} names no Google Cloud project, and Claude Code does not start without one",
            next=f'write project = "YOUR-PROJECT" below [profiles.{name}] in your models.toml',
        )
    limits = limits or ModelLimits()
    variables = _gateway(profile, stack)
    if key is not None and stack is None:
        variables["ANTHROPIC_AUTH_TOKEN"] = key
    variables |= _models(profile, stack.model if stack is not None else None, tiers)
    variables |= _limits(ModelLimits(profile.context or limits.context, profile.max_output or limits.max_output))
    variables |= _QUIET | _PATIENCE
    if profile.headers:
        variables["ANTHROPIC_CUSTOM_HEADERS"] = "\n".join(
            f"{header}: {value}" for header, value in profile.headers.items()
        )
    if not profile.prompt_caching:
        variables["DISABLE_PROMPT_CACHING"] = "1"
    settings: dict[str, Any] = {}
    if profile.gateway is Gateway.STACK:
        settings["permissions"] = NO_AUTO_MODE
    if profile.token_command is not None:
        variables["CLAUDE_CODE_API_KEY_HELPER_TTL_MS"] = str(round(profile.token_ttl_s * 1000))
        settings["apiKeyHelper"] = profile.token_command
    variables |= no_proxy(inherited)
    variables[MARK] = name
    variables |= profile.env
    removed = tuple(n for n in (*CONFLICTING, *OURS) if n not in variables)
    return ClientEnvironment(variables, removed, settings)


def no_proxy(inherited: Mapping[str, str]) -> dict[str, str]:
    """Loopback left out of any HTTP proxy, before what the user leaves out already."""
    before = [part.strip() for part in (inherited.get("no_proxy") or inherited.get("NO_PROXY") or "").split(",")]
    value = ",".join(dict.fromkeys([*LOOPBACK, *(part for part in before if part)]))
    return {"NO_PROXY": value, "no_proxy": value}


def _gateway(profile: Profile, stack: StackAccess | None) -> dict[str, str]:
    if profile.gateway is Gateway.STACK:
        assert stack is not None
        return {"ANTHROPIC_BASE_URL": stack.url, "ANTHROPIC_AUTH_TOKEN": stack.token}
    if profile.gateway is Gateway.ANTHROPIC:
        return {"ANTHROPIC_BASE_URL": profile.base_url or ""}
    variables: dict[str, str] = {}
    if profile.gateway is Gateway.BEDROCK:
        variables["CLAUDE_CODE_USE_BEDROCK"] = "1"
        variables |= _said("ANTHROPIC_BEDROCK_BASE_URL", profile.base_url) | _said("AWS_REGION", profile.region)
        variables |= _said("CLAUDE_CODE_SKIP_BEDROCK_AUTH", "1" if profile.skip_auth else None)
    else:
        variables["CLAUDE_CODE_USE_VERTEX"] = "1"
        variables |= _said("ANTHROPIC_VERTEX_BASE_URL", profile.base_url) | _said("CLOUD_ML_REGION", profile.region)
        variables |= _said("ANTHROPIC_VERTEX_PROJECT_ID", profile.project)
        variables |= _said("CLAUDE_CODE_SKIP_VERTEX_AUTH", "1" if profile.skip_auth else None)
    return variables


def _said(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}


def _models(profile: Profile, deployed: str | None, tiers: Mapping[str, str]) -> dict[str, str]:
    """Every tier gets a name: an unset one means a model of Anthropic's, which no route of the user's may know."""
    model = profile.model or deployed
    if model is None:
        named = (profile.opus, profile.sonnet, profile.haiku)
        tiers_named = {tier: name for tier, name in zip(_TIERS, named, strict=True) if name is not None}
        return tiers_named | _said(_FABLE, profile.opus)
    routed = tiers if profile.model is None else {}
    haiku = profile.haiku or routed.get("haiku", model)
    opus = profile.opus or routed.get("opus", model)
    variables = {
        "ANTHROPIC_MODEL": model,
        _FABLE: opus,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": opus,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": profile.sonnet or routed.get("sonnet", model),
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": haiku,
        "ANTHROPIC_SMALL_FAST_MODEL": haiku,
    }
    return variables | _said("CLAUDE_CODE_SUBAGENT_MODEL", profile.subagents)


def _limits(limits: ModelLimits) -> dict[str, str]:
    variables: dict[str, str] = {}
    if limits.context is not None:
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(limits.context)
        # Less than 100,000 counts as that, with a warning; the smaller of both decides when the client compacts.
        variables["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] = str(max(limits.context, 100_000))
    if limits.max_output is not None and limits.max_output > 0:
        variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(limits.max_output)
    return variables
