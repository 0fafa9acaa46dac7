"""One running stack, whose models.toml leads every upstream to a loopback host, and the real Claude Code on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.hosts.chat import Cerebras, LmStudio, Ollama, OpenRouter, Vllm
from support.hosts.clouds import Anthropic, Bedrock, Vertex
from support.programs import debian_packages
from support.stack import Ran, Stack
from support.upstream import Upstream


@pytest.fixture(scope="session")
def shells() -> dict[str, str]:
    """bash, zsh and fish, installed where one is missing."""
    names = ("bash", "zsh", "fish")
    debian_packages(names, names)
    return {name: str(shutil.which(name)) for name in names}


@dataclass
class Hosts:
    """Each host with its behaviour (script) and what it was asked (asked)."""

    cerebras: Upstream = field(default_factory=lambda: Upstream(Cerebras()))
    ollama: Upstream = field(default_factory=lambda: Upstream(Ollama()))
    openrouter: Upstream = field(default_factory=lambda: Upstream(OpenRouter()))
    vllm: Upstream = field(default_factory=lambda: Upstream(Vllm()))
    lmstudio: Upstream = field(default_factory=lambda: Upstream(LmStudio()))
    anthropic: Upstream = field(default_factory=lambda: Upstream(Anthropic()))
    bedrock: Upstream = field(default_factory=lambda: Upstream(Bedrock()))
    vertex: Upstream = field(default_factory=lambda: Upstream(Vertex()))

    def all(self) -> list[Upstream]:
        chat = [self.cerebras, self.ollama, self.openrouter, self.vllm, self.lmstudio]
        return [*chat, self.anthropic, self.bedrock, self.vertex]

    def reset(self) -> None:
        scripts = [
            Cerebras(), Ollama(), OpenRouter(), Vllm(), LmStudio(), Anthropic(), Bedrock(), Vertex(),
        ]  # fmt: skip
        for host, script in zip(self.all(), scripts, strict=True):
            host.script = script
            host.asked.clear()

    def overlay(self) -> str:
        """A user's models.toml in which only the addresses differ from what is shipped."""
        return f"""
[upstreams.cerebras]
base_url = "{self.cerebras.url}/v1"
[upstreams.openrouter]
base_url = "{self.openrouter.url}/api/v1"
[upstreams.ollama]
base_url = "{self.ollama.url}/v1"
[upstreams.vllm]
base_url = "{self.vllm.url}/v1"
[upstreams.lmstudio]
base_url = "{self.lmstudio.url}/v1"
[upstreams.anthropic]
base_url = "{self.anthropic.url}"
"""


@pytest.fixture(scope="session")
def session_hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    yield hosts
    for host in hosts.all():
        host.close()


@pytest.fixture
def hosts(session_hosts: Hosts) -> Hosts:
    session_hosts.reset()
    return session_hosts


@pytest.fixture(scope="session")
def session_stack(tmp_path_factory: pytest.TempPathFactory, session_hosts: Hosts) -> Iterator[Stack]:
    home = Stack.in_folder(tmp_path_factory.mktemp("clients") / "home")
    home.up()
    yield home
    home.end()


@pytest.fixture
def stack(session_stack: Stack, hosts: Hosts) -> Stack:
    """The running stack with a fresh models.toml, and keys for the hosts that want one."""
    catalog = session_stack.root / "config" / "models.toml"
    catalog.write_text(hosts.overlay())
    shutil.rmtree(session_stack.root / "config" / "keys", ignore_errors=True)
    for name, key in (("cerebras", Cerebras.KEY), ("openrouter", OpenRouter.KEY), ("anthropic", Anthropic.KEY)):
        store(session_stack, name, key)
    return session_stack


def store(home: Stack, name: str, key: str) -> Path:
    path = home.root / "config" / "keys" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(key + "\n")
    return path


@dataclass(frozen=True)
class Client:
    """The real Claude Code, started by `llmstack claude` or plainly, in a home and a folder of its own."""

    program: Path
    stack: Stack
    home: Path
    work: Path

    def environment(self, **more: str) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LLMSTACK_HOME": str(self.stack.root),
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
            "NO_COLOR": "1",
            **more,
        }

    def ask(self, prompt: str, *arguments: str, profile: str = "local", **environment: str) -> Ran:
        """`llmstack claude --profile P -- -p PROMPT --output-format json …`"""
        command = [sys.executable, "-m", "llmstack", "claude", "--profile", profile, "--", "-p", prompt]
        return self.run([*command, "--dangerously-skip-permissions", *arguments], **environment)

    def plain(self, prompt: str, *arguments: str, **environment: str) -> Ran:
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        return self.run([str(self.program), "-p", prompt, *arguments], **quiet | environment)

    def run(self, command: list[str], **environment: str) -> Ran:
        done = subprocess.run(
            command,
            env=self.environment(**environment),
            cwd=self.work if self.work.exists() else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def client(claude_code: Path, stack: Stack, tmp_path: Path) -> Client:
    made = Client(claude_code, stack, tmp_path / "home", tmp_path / "work")
    made.environment()
    return made


def chats(host: Upstream) -> list[dict[str, Any]]:
    """The bodies of the completions a host was asked for."""
    return [json.loads(asked.body) for asked in host.asked if asked.method == "POST" and asked.body]
