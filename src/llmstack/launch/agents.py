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
Speaks = Literal["messages", "responses", "gemini", "chat"]


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


def codex_provider(stack: PointFacts) -> dict[str, Any]:
    """Without its key, which a variable or a command gives."""
    return {
        "name": "llmstack",
        "base_url": f"{stack.url}/v1",
        "wire_api": "responses",
        "stream_idle_timeout_ms": SILENCE_MS,
        "model_catalog_url": f"{stack.url}/v1/models",
    }


def _codex(stack: PointFacts) -> Pointed:
    provider = codex_provider(stack) | {"env_key": TOKEN}
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


def opencode_provider(stack: PointFacts, key: str) -> dict[str, Any]:
    """key: as its settings name one."""
    limit = {"context": stack.context, "output": stack.max_output or 8192} if stack.context else None
    model: dict[str, Any] = {"tool_call": True, "reasoning": True, **({"limit": limit} if limit else {})}
    return {
        "npm": "@ai-sdk/anthropic",
        "name": "llmstack",
        "options": {"baseURL": f"{stack.url}/v1", "apiKey": key, "timeout": SILENCE_MS},
        "models": {stack.model: model},
    }


def _opencode_settings(stack: PointFacts) -> str:
    name = f"llmstack/{stack.model}"
    models = {"model": name, "small_model": name}
    provider = {"llmstack": opencode_provider(stack, f"{{env:{TOKEN}}}")}
    return json.dumps({"autoupdate": False, "share": "disabled", **models, "provider": provider})


def _opencode(stack: PointFacts) -> Pointed:
    return Pointed({TOKEN: stack.token, "OPENCODE_CONFIG_CONTENT": _opencode_settings(stack)})


def _kilo(stack: PointFacts) -> Pointed:
    return Pointed({TOKEN: stack.token, "KILO_CONFIG_CONTENT": _opencode_settings(stack)})


def qwen_generation(stack: PointFacts) -> dict[str, Any]:
    generation: dict[str, Any] = {"timeout": SILENCE_MS}
    if stack.context:
        generation["contextWindowSize"] = stack.context
    if stack.max_output:
        generation["samplingParams"] = {"max_tokens": stack.max_output}
    return generation


def _qwen(stack: PointFacts) -> Pointed:
    settings = {
        "model": {"generationConfig": qwen_generation(stack)},
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
        (
            *("--model", name, "--model-metadata-file", str(file), "--timeout", str(SILENCE_MS // 1000)),
            *("--no-check-update", "--analytics-disable"),
        ),
        {"models.json": json.dumps({name: about})},
    )


def _openhands(stack: PointFacts) -> Pointed:
    variables = {"LLM_MODEL": f"openai/{stack.model}", "LLM_BASE_URL": f"{stack.url}/v1", "LLM_API_KEY": stack.token}
    return Pointed(variables, ("--override-with-envs",))


def pi_provider(stack: PointFacts, key: str) -> dict[str, Any]:
    """As its models.json and its extensions have it. key: as its settings name one."""
    model: dict[str, Any] = {"id": stack.model, "name": stack.model, "reasoning": True, "input": ["text"]}
    model["cost"] = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
    if stack.context:
        model["contextWindow"] = stack.context
    if stack.max_output:
        model["maxTokens"] = stack.max_output
    return {"baseUrl": stack.url, "api": "anthropic-messages", "apiKey": key, "models": [model]}


def _pi(stack: PointFacts) -> Pointed:
    """An extension for this start: its own folder, with sessions and settings, stays the user's."""
    provider = pi_provider(stack, f"${TOKEN}")
    extension = f'export default (pi) => pi.registerProvider("llmstack", {json.dumps(provider)});\n'
    given = ("--extension", str(stack.folder / "llmstack.mjs"), "--provider", "llmstack", "--model", stack.model)
    return Pointed({TOKEN: stack.token, "PI_OFFLINE": "1"}, given, {"llmstack.mjs": extension})


def _cline(stack: PointFacts) -> Pointed:
    """Without its hub: a daemon that outlives the command, with the settings of its first start."""
    settings: dict[str, Any] = {"provider": "anthropic", "apiKey": stack.token, "model": stack.model}
    settings |= {"baseUrl": f"{stack.url}/v1", "timeout": SILENCE_MS}
    if stack.context:
        settings["contextWindow"] = stack.context
    if stack.max_output:
        settings["maxTokens"] = stack.max_output
    provider = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    providers = {"version": 1, "lastUsedProvider": "anthropic", "modes": {}, "providers": {"anthropic": provider}}
    variables = {
        "CLINE_PROVIDER_SETTINGS_PATH": str(stack.folder / "providers.json"),
        "CLINE_SESSION_BACKEND_MODE": "local",
        "CLINE_NO_AUTO_UPDATE": "1",
    }
    return Pointed(variables, (), {"providers.json": json.dumps(providers)})


def continue_model(stack: PointFacts) -> dict[str, Any]:
    limits = {"contextLength": stack.context, "maxTokens": stack.max_output}
    return {
        "name": "llmstack",
        "provider": "anthropic",
        "model": stack.model,
        "apiBase": f"{stack.url}/v1",
        "apiKey": f"${{{{ secrets.{TOKEN} }}}}",
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
        "defaultCompletionOptions": {name: value for name, value in limits.items() if value},
    }


def _continue(stack: PointFacts) -> Pointed:
    settings = {"name": "llmstack", "version": "1.0.0", "schema": "v1", "models": [continue_model(stack)]}
    variables = {TOKEN: stack.token, "CONTINUE_CLI_AUTO_UPDATED": "1", "CONTINUE_METRICS_ENABLED": "0"}
    # JSON is YAML
    return Pointed(variables, ("--config", str(stack.folder / "config.yaml")), {"config.yaml": json.dumps(settings)})


def _vibe(stack: PointFacts) -> Pointed:
    provider = {"name": "llmstack", "api_base": stack.url, "api_key_env_var": TOKEN, "backend": "generic"}
    provider["api_style"] = "anthropic"
    model: dict[str, Any] = {"name": stack.model, "provider": "llmstack", "alias": "llmstack"}
    if stack.context:
        model["max_context_length"] = stack.context
        model["auto_compact_threshold"] = stack.context - (stack.max_output or 8192)
    if stack.max_output:
        model["max_output_tokens"] = stack.max_output
    variables = {
        TOKEN: stack.token,
        "VIBE_ACTIVE_MODEL": "llmstack",
        "VIBE_PROVIDERS": json.dumps([provider]),
        "VIBE_MODELS": json.dumps([model]),
        "VIBE_API_TIMEOUT": str(SILENCE_MS / 1000),
        "VIBE_ENABLE_TELEMETRY": "false",
        "VIBE_ENABLE_UPDATE_CHECKS": "false",
    }
    return Pointed(variables)


def _hermes(stack: PointFacts) -> Pointed:
    """By a folder of settings that go over the user's, value by value."""
    model = {
        "provider": "custom",
        "default": stack.model,
        "base_url": f"{stack.url}/v1",
        "api_key": f"${{{TOKEN}}}",
        **({"context_length": stack.context} if stack.context else {}),
        **({"max_tokens": stack.max_output} if stack.max_output else {}),
    }
    variables = {TOKEN: stack.token, "HERMES_MANAGED_DIR": str(stack.folder)}
    return Pointed(variables, (), {"config.yaml": json.dumps({"model": model})})


def _gemini(stack: PointFacts) -> Pointed:
    """By a home of its own: with another address than Google's it takes a key only where its settings say so."""
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
    }
    variables = {
        "GEMINI_CLI_HOME": str(stack.folder),
        "GEMINI_API_KEY": stack.token,
        "GOOGLE_GEMINI_BASE_URL": stack.url,
        "GEMINI_MODEL": stack.model,
    }
    return Pointed(variables, (), {".gemini/settings.json": json.dumps(settings)})


_NO_TOOLS_THEN = "its compaction asks without the tools: then the prompt is read anew"
AGENTS: dict[str, Agent] = {
    "codex": Agent("Codex", "codex", "npm install -g @openai/codex", "responses", "0.171.0", _codex),
    "opencode": Agent(
        "OpenCode", "opencode", "npm install -g opencode-ai", "messages", "1.18.33", _opencode, _NO_TOOLS_THEN
    ),
    "kilo": Agent(
        "Kilo Code", "kilo", "npm install -g @kilocode/cli@7.7.9", "messages", "7.7.9", _kilo, _NO_TOOLS_THEN
    ),
    "qwen": Agent("Qwen Code", "qwen", "npm install -g @qwen-code/qwen-code", "messages", "0.24.4", _qwen),
    "copilot": Agent(
        "GitHub Copilot CLI",
        "copilot",
        "npm install -g @github/copilot",
        "messages",
        "1.0.102",
        _copilot,
        "ends when a prompt is too long all the same",
    ),
    "pi": Agent(
        "Pi",
        "pi",
        "npm install -g @earendil-works/pi-coding-agent",
        "messages",
        "1.6.0",
        _pi,
        "needs Node.js 22; `-p` ends without a word when a prompt is too long",
    ),
    "cline": Agent(
        "Cline CLI", "cline", "npm install -g cline", "messages", "3.0.65", _cline, "its web search is left out"
    ),
    "continue": Agent(
        "Continue CLI",
        "cn",
        "npm install -g @continuedev/cli",
        "messages",
        "1.5.47",
        _continue,
        "ends when a prompt is too long",
    ),
    "gemini": Agent(
        "Gemini CLI",
        "gemini",
        "npm install -g @google/gemini-cli",
        "gemini",
        "0.61.0",
        _gemini,
        "has a home of its own here, without your settings of it; does not know how long a prompt may be",
    ),
    "vibe": Agent(
        "Mistral Vibe",
        "vibe",
        "pipx install mistral-vibe",
        "messages",
        "3.0.2",
        _vibe,
        "needs Python 3.12; ends when a prompt is too long all the same",
    ),
    "hermes": Agent(
        "Hermes", "hermes", "pipx install hermes-agent", "chat", "0.19.0", _hermes, "wants a context of 64,000 or more"
    ),
    "aider": Agent(
        "Aider",
        "aider",
        "pipx install aider-chat",
        "chat",
        "0.86.2",
        _aider,
        "edits by text, without tools; each file that is added changes the prompt's middle",
    ),
    "openhands": Agent(
        "OpenHands", "openhands", "pipx install openhands", "chat", "1.16.0", _openhands, "takes whole answers only"
    ),
}
