"""The agents, and how each is pointed at a stack. Observed on the real ones; docs/other-clients.md has the versions.

Where a client speaks Anthropic's protocol it gets that: thinking comes back signed, and a call as the model wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TOKEN = "LLMSTACK_TOKEN"  # the variable that settings name, so that no token stands in them
SILENCE_MS = 1_800_000  # a long prompt is read for minutes before the first word
Speaks = Literal["messages", "responses", "chat"]


@dataclass(frozen=True, slots=True)
class PointFacts:
    """url: of the proxy. context, max_output: tokens, None where nobody says. folder: for files of ours."""

    url: str
    token: str
    model: str
    context: int | None
    max_output: int | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Pointed:
    """What leads an agent here. files: by name in the folder."""

    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Agent:
    """version: the one that was tried."""

    title: str
    program: str
    install: str
    speaks: Speaks
    version: str
    point: Callable[[PointFacts], Pointed]
    note: str = ""


def _codex(stack: PointFacts) -> Pointed:
    provider = {
        "name": "llmstack",
        "base_url": f"{stack.url}/v1",
        "wire_api": "responses",
        "env_key": TOKEN,
        "stream_idle_timeout_ms": SILENCE_MS,
        "model_catalog_url": f"{stack.url}/v1/models",
    }
    settings: dict[str, Any] = {
        "model": stack.model,
        "model_provider": "llmstack",
        "web_search": "disabled",
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
        **{f"model_providers.llmstack.{name}": value for name, value in provider.items()},
    }
    arguments = (part for name, value in settings.items() for part in ("-c", f"{name}={json.dumps(value)}"))
    return Pointed({TOKEN: stack.token}, tuple(arguments))


def _opencode_settings(stack: PointFacts) -> str:
    limit = {"context": stack.context, "output": stack.max_output or 8192} if stack.context else None
    model: dict[str, Any] = {"tool_call": True, "reasoning": True, **({"limit": limit} if limit else {})}
    provider = {
        "npm": "@ai-sdk/anthropic",
        "name": "llmstack",
        "options": {"baseURL": f"{stack.url}/v1", "apiKey": f"{{env:{TOKEN}}}"},
        "models": {stack.model: model},
    }
    name = f"llmstack/{stack.model}"
    models = {"model": name, "small_model": name}
    return json.dumps({"autoupdate": False, "share": "disabled", **models, "provider": {"llmstack": provider}})


def _opencode(stack: PointFacts) -> Pointed:
    return Pointed({TOKEN: stack.token, "OPENCODE_CONFIG_CONTENT": _opencode_settings(stack)})


def _kilo(stack: PointFacts) -> Pointed:
    return Pointed({TOKEN: stack.token, "KILO_CONFIG_CONTENT": _opencode_settings(stack)})


def _qwen(stack: PointFacts) -> Pointed:
    generation: dict[str, Any] = {"timeout": SILENCE_MS}
    if stack.context:
        generation["contextWindowSize"] = stack.context
    if stack.max_output:
        generation["samplingParams"] = {"max_tokens": stack.max_output}
    settings = {
        "model": {"generationConfig": generation},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True},
    }
    variables = {
        "ANTHROPIC_BASE_URL": stack.url,
        "ANTHROPIC_API_KEY": stack.token,
        "ANTHROPIC_MODEL": stack.model,
        "QWEN_CODE_SYSTEM_SETTINGS_PATH": str(stack.folder / "settings.json"),
    }
    return Pointed(variables, ("--auth-type", "anthropic"), {"settings.json": json.dumps(settings)})


def _copilot(stack: PointFacts) -> Pointed:
    variables = {
        "COPILOT_PROVIDER_BASE_URL": stack.url,
        "COPILOT_PROVIDER_API_KEY": stack.token,
        "COPILOT_PROVIDER_TYPE": "anthropic",
        "COPILOT_MODEL": stack.model,
        "COPILOT_OFFLINE": "true",
    }
    if stack.context:
        variables["COPILOT_PROVIDER_MAX_PROMPT_TOKENS"] = str(stack.context - (stack.max_output or 0))
    if stack.max_output:
        variables["COPILOT_PROVIDER_MAX_OUTPUT_TOKENS"] = str(stack.max_output)
    return Pointed(variables)


def _aider(stack: PointFacts) -> Pointed:
    about: dict[str, Any] = {"litellm_provider": "openai", "mode": "chat"}
    if stack.context:
        about |= {"max_input_tokens": stack.context, "max_output_tokens": stack.max_output or 8192}
    name = f"openai/{stack.model}"
    file = stack.folder / "models.json"
    return Pointed(
        {"OPENAI_API_BASE": f"{stack.url}/v1", "OPENAI_API_KEY": stack.token},
        ("--model", name, "--model-metadata-file", str(file), "--no-check-update", "--analytics-disable"),
        {"models.json": json.dumps({name: about})},
    )


def _openhands(stack: PointFacts) -> Pointed:
    variables = {"LLM_MODEL": f"openai/{stack.model}", "LLM_BASE_URL": f"{stack.url}/v1", "LLM_API_KEY": stack.token}
    return Pointed(variables, ("--override-with-envs",))


AGENTS: dict[str, Agent] = {
    "codex": Agent("Codex", "codex", "npm install -g @openai/codex", "responses", "0.171.0", _codex),
    "opencode": Agent("OpenCode", "opencode", "npm install -g opencode-ai", "messages", "1.18.33", _opencode),
    "kilo": Agent("Kilo Code", "kilo", "npm install -g @kilocode/cli@7.7.9", "messages", "7.7.9", _kilo),
    "qwen": Agent("Qwen Code", "qwen", "npm install -g @qwen-code/qwen-code", "messages", "0.24.4", _qwen),
    "copilot": Agent(
        "GitHub Copilot CLI", "copilot", "npm install -g @github/copilot", "messages", "1.0.102", _copilot
    ),
    "aider": Agent(
        "Aider", "aider", "pipx install aider-chat", "chat", "0.86.2", _aider, "edits by text, without tools"
    ),
    "openhands": Agent("OpenHands", "openhands", "pipx install openhands", "chat", "1.16.0", _openhands),
}
