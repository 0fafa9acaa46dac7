"""What `launch NAME --write` makes lasting: which files of an agent, and what they then say.

The token is named where the agent can read a file or run a command for it, and written only where it can't; then the
file is its owner's alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.launch.agents import (
    PointFacts,
    codex_provider,
    continue_model,
    opencode_provider,
    pi_provider,
    qwen_generation,
)
from llmstack.launch.lines import toml_with, yaml_with_first

Values = tuple[tuple[tuple[str, ...], Any], ...]


@dataclass(frozen=True, slots=True)
class TokenSource:
    """file: that holds it. command: that prints it."""

    file: Path
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LastingFile:
    """values: of JSON, by their keys from the top. lines: changes any other text, or raises NotPossible. secret: the
    token is in it."""

    path: Path
    values: Values = ()
    lines: Callable[[str], str] | None = None
    secret: bool = False


def _folder(inherited: Mapping[str, str], variable: str, below: str) -> Path:
    return Path(inherited.get(variable) or Path(inherited.get("HOME") or Path.home()) / below)


def _codex(stack: PointFacts, token: TokenSource, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    content = codex_provider(stack) | {"auth": {"command": token.command[0], "args": list(token.command[1:])}}
    top = {"model": stack.model, "model_provider": "llmstack", "web_search": "disabled"}
    path = _folder(inherited, "CODEX_HOME", ".codex") / "config.toml"
    return (LastingFile(path, lines=lambda text: toml_with(text, top, "model_providers.llmstack", content)),)


def _opencode(stack: PointFacts, token: TokenSource, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    folder = _folder(inherited, "XDG_CONFIG_HOME", ".config") / "opencode"
    # Of both, the second wins.
    commented = folder / "opencode.jsonc"
    path = commented if commented.exists() else folder / "opencode.json"
    name = f"llmstack/{stack.model}"
    values = (
        (("model",), name),
        (("small_model",), name),
        (("provider", "llmstack"), opencode_provider(stack, f"{{file:{token.file}}}")),
    )
    return (LastingFile(path, values),)


def _pi(stack: PointFacts, token: TokenSource, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    folder = _folder(inherited, "PI_CODING_AGENT_DIR", ".pi/agent")
    provider = pi_provider(stack, f"!{shlex.join(token.command)}")
    chosen = ((("defaultProvider",), "llmstack"), (("defaultModel",), stack.model))
    return (
        LastingFile(folder / "models.json", ((("providers", "llmstack"), provider),)),
        LastingFile(folder / "settings.json", chosen),
    )


def _continue(stack: PointFacts, token: TokenSource, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    model = continue_model(stack) | {"apiKey": stack.token}
    otherwise = {"name": "My configuration", "version": "1.0.0", "schema": "v1"}
    path = _folder(inherited, "CONTINUE_GLOBAL_DIR", ".continue") / "config.yaml"
    return (LastingFile(path, lines=lambda text: yaml_with_first(text, "models", model, otherwise), secret=True),)


def _qwen(stack: PointFacts, token: TokenSource, inherited: Mapping[str, str]) -> tuple[LastingFile, ...]:
    values: Values = (
        (("env", "ANTHROPIC_BASE_URL"), stack.url),
        (("env", "ANTHROPIC_API_KEY"), stack.token),
        (("env", "ANTHROPIC_MODEL"), stack.model),
        (("security", "auth", "selectedType"), "anthropic"),
        (("model", "name"), stack.model),
        *((("model", "generationConfig", name), value) for name, value in qwen_generation(stack).items()),
    )
    path = _folder(inherited, "QWEN_HOME", ".qwen") / "settings.json"
    return (LastingFile(path, values, secret=True),)


LASTING: dict[str, Callable[[PointFacts, TokenSource, Mapping[str, str]], tuple[LastingFile, ...]]] = {
    "codex": _codex,
    "opencode": _opencode,
    "qwen": _qwen,
    "pi": _pi,
    "continue": _continue,
}
