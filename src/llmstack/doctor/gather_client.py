"""Facts of Claude Code on this account: version, settings, environment. Values of secrets are never kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from llmstack.doctor.facts import ClientFacts

VERSION_TIMEOUT_S = 20.0
# Settings (settings.json, "env") that win over the environment `llmstack claude` gives.
FIGHTING = (
    "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_OAUTH_TOKEN",
)  # fmt: skip
IN_THE_WAY = {
    "ANTHROPIC_API_KEY": "it is sent as well, and some releases ask about it at every start",
    "CLAUDE_CODE_USE_BEDROCK": "requests go to Bedrock",
    "CLAUDE_CODE_USE_VERTEX": "requests go to Vertex",
    "CLAUDE_CODE_OAUTH_TOKEN": "requests go to the account it belongs to",
    "CLAUDE_CODE_SUBAGENT_MODEL": "all sub-agents ask for that model",
}
_PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def client(environment: Mapping[str, str], user_home: Path, token: str, url: str | None) -> ClientFacts:
    """token: this stack's; url: of its proxy, None when nothing is deployed."""
    program = shutil.which("claude", path=environment.get("PATH"))
    settings, broken = _settings(environment, user_home, url)
    given = environment.get("ANTHROPIC_AUTH_TOKEN")
    leads_here = url is not None and environment.get("ANTHROPIC_BASE_URL", "").rstrip("/") == url
    return ClientFacts(
        program=program,
        version=_version(program) if program else "",
        settings=settings,
        broken_settings=broken,
        environment={name: why for name, why in IN_THE_WAY.items() if environment.get(name)},
        token_matches=given == token if leads_here and given else None,
        proxy_variables=tuple(name for name in _PROXIES if environment.get(name)),
        no_proxy_covers=covers_loopback(environment),
    )


def covers_loopback(environment: Mapping[str, str]) -> bool:
    value = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    entries = {entry.strip() for entry in value.split(",")}
    return bool(entries & {"*", "127.0.0.1", "127.0.0.0/8"})


def _settings(
    environment: Mapping[str, str], user_home: Path, url: str | None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    folder = Path(environment.get("CLAUDE_CONFIG_DIR") or user_home / ".claude")
    keys_by_file: dict[str, tuple[str, ...]] = {}
    broken = []
    for file in (folder / "settings.json", Path("/etc/claude-code/managed-settings.json")):
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except OSError:
            continue
        except ValueError:
            broken.append(str(file))
            continue
        keys = fighting_keys(data, url)
        if keys:
            keys_by_file[str(file)] = keys
    return keys_by_file, tuple(broken)


def fighting_keys(data: object, url: str | None) -> tuple[str, ...]:
    """The keys of a settings file that lead Claude Code elsewhere; a base URL that is ours does not."""
    if not isinstance(data, dict):
        return ()
    variables = data.get("env")
    variables = variables if isinstance(variables, dict) else {}
    ours = url is not None and str(variables.get("ANTHROPIC_BASE_URL", "")).rstrip("/") == url
    keys = [] if ours else [name for name in FIGHTING if name in variables]
    keys += [name for name in ("apiKeyHelper",) if name in data and not ours and "llmstack" not in str(data[name])]
    return tuple(keys)


def _version(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=VERSION_TIMEOUT_S, check=False,
            env={**os.environ, "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return done.stdout.strip().split("\n")[0]
