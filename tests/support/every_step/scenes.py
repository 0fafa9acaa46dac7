"""Every command: the home it is run in, and its words. Or that it only reads, which is looked at too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

Prepare = Callable[[Path], object]

ADDED = "mine --kind openai --base-url http://127.0.0.1:9/v1 --context 8192 --model m --json"


def _nothing(work: Path) -> None:
    """The home is made by the command."""


@dataclass(frozen=True)
class Scene:
    """command: its words. arguments: behind them; `{work}` is the folder of the scene. prepare: what is there before.

    live: started anew for each trial, because a process cannot be copied. again: exit statuses of a second run that are
    as good as the first one's. leaves: parts of names that a second run may leave or not. services: it starts some.
    stdin: what is piped into it. long: with --long alone.
    """

    command: str
    arguments: tuple[str, ...] = ()
    prepare: Prepare = _nothing
    live: Prepare | None = None
    again: tuple[int, ...] = ()
    leaves: tuple[str, ...] = ()
    services: bool = False
    long: bool = False
    stdin: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def argv(self, work: Path) -> list[str]:
        return [*self.command.split(), *(self._filled(argument, work) for argument in self.arguments)]

    @property
    def title(self) -> str:
        """The command with the options that tell its scenes apart."""
        options = (
            word
            for word in self.arguments
            if word in ("--undo", "--write", "--proxy-only", "--demo", "proxy", "server")
        )
        return " ".join([self.command, *options])

    @staticmethod
    def _filled(argument: str, work: Path) -> str:
        proxy, server = ports(work)
        return argument.format(work=work, proxy=proxy, server=server, hub=hub(work))

    def may_leave(self, name: str) -> bool:
        return any(part in name for part in self.leaves)


def _run(work: Path, *words: str) -> int:
    from llmstack.cli.main import run

    return run(list(words))


def _home() -> None:
    from llmstack.deploy import keys
    from llmstack.paths import home

    keys.ensure(home().make())


def _with_upstream(work: Path) -> None:
    _home()
    _run(work, "upstream", "add", *ADDED.split(), "--key-file", _key(work))


def _key(work: Path) -> str:
    path = work / "user" / "key"
    path.write_text("sk-0123456789\n")
    path.chmod(0o600)
    return str(path)


def _with_tavily(work: Path) -> None:
    """A search with a key, which is piped in."""
    _home()
    _run(work, "web-search", "use", "tavily", "--key-stdin")


def _with_client_key(work: Path) -> None:
    _home()
    _run(work, "key", "add", "kim")


def _with_key(work: Path) -> None:
    _home()
    _key(work)


def _with_record(work: Path) -> None:
    """Of a stack that does not run."""
    from llmstack.paths import home, write_private

    _home()
    record = {
        "model": {"name": "tiny", "path": "/m.gguf"}, "server": {"host": "127.0.0.1", "port": 9}, "n_ctx": 65536,
        "n_ctx_slot": 65536, "n_parallel": 1, "n_predict": 8192, "capabilities": {"vision": False},
    }  # fmt: skip
    write_private(home().stack, json.dumps(record).encode())


def _with_settings(work: Path) -> None:
    _with_record(work)
    (work / "user" / "project" / ".claude").mkdir(parents=True)
    (work / "user" / "project" / ".claude" / "settings.json").write_text('{"model": "opus"}\n')


def _with_written_settings(work: Path) -> None:
    _with_settings(work)
    _run(work, "claude-settings", "--file", str(work / "user/project/.claude/settings.json"))


def _with_agent_settings(work: Path) -> None:
    _with_record(work)
    folder = work / "user" / ".config" / "opencode"
    folder.mkdir(parents=True)
    (folder / "opencode.json").write_text('{\n  // mine\n  "theme": "dark"\n}\n')


def _with_lasting_settings(work: Path) -> None:
    _with_agent_settings(work)
    _run(work, "launch", "opencode", "--write", "--json")


def _with_model(work: Path) -> None:
    from llmstack.fetch.models_dir import place, write_record
    from llmstack.paths import home
    from support.model_bytes import model_bytes

    _home()
    path = place(home(), "maker/tiny", "Tiny-Q4_K_M.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(model_bytes(20_000, 1))
    write_record(path, "https://example.org/x", hashlib.sha256(path.read_bytes()).hexdigest(), "tiny")


def _with_states(work: Path) -> None:
    from llmstack.paths import home

    _home()
    folder = home().slots / "abc"
    folder.mkdir()
    (folder / "prefix-1.kv").write_bytes(b"x" * 100)
    (home().slots / "k.prefix").write_text('{"key": "k", "body": {}, "tokens": 1}')


def _with_everything(work: Path) -> None:
    _with_upstream(work)
    _with_written_settings(work)
    _with_model(work)
    _run(work, "launch", "opencode", "--write", "--json")


def _home_only(work: Path) -> None:
    _home()


def _with_fetched_catalog(work: Path) -> None:
    _home()
    _run(work, "catalog", "refresh", "--from", f"{hub(work)}/plain/list.toml")


def hub(work: Path) -> str:
    """The address of a server that stands for the hub."""
    return (work.parent / "hub").read_text()


def ports(work: Path) -> tuple[str, str]:
    """Two that were free when the scene was made."""
    first, second = (work.parent / "ports").read_text().split()
    return first, second


def _proxy_alone(work: Path) -> int:
    return _run(work, "up", "--proxy-only", "--port", ports(work)[0], "--json")


def _demo(work: Path) -> int:
    proxy, server = ports(work)
    return _run(work, "up", "--demo", "--port", proxy, "--server-port", server, "--json")


SETTINGS = "{work}/user/project/.claude/settings.json"
RUNNING: dict[str, Any] = {
    "services": True,
    "leaves": ("served.json", "calls.replay", "bench", "slots/", "headers", "cache/"),
}
DEMO = ("--demo", "--port", "{proxy}", "--server-port", "{server}", "--json")
SCENES = (
    Scene("upstream add", (*ADDED.split(), "--key-file", "{work}/user/key"), _with_key),
    Scene("upstream remove", ("mine", "--yes", "--json"), _with_upstream, again=(1, 2)),
    Scene("upstream offline", ("on", "--json"), _with_upstream),
    Scene("web-search use", ("brave", "--key-stdin", "--json"), _with_tavily, stdin="key-0123456789\n"),
    Scene("web-search off", ("--json",), _with_tavily, stdin="key-0123456789\n"),
    Scene("web-search fetch", ("on", "--json"), _with_tavily, stdin="key-0123456789\n"),
    Scene("key add", ("kim", "--json"), _home_only, again=(0, 1, 2)),
    Scene("key rotate", ("kim", "--json"), _with_client_key),
    Scene("key revoke", ("kim", "--json"), _with_client_key, again=(0, 1, 2)),
    Scene("claude-settings", ("--file", SETTINGS, "--json"), _with_settings),
    Scene("claude-settings", ("--file", SETTINGS, "--undo", "--json"), _with_written_settings, again=(1,)),
    Scene("launch", ("opencode", "--write", "--json"), _with_agent_settings),
    Scene("launch", ("opencode", "--undo", "--json"), _with_lasting_settings, again=(1,)),
    Scene("models remove", ("maker/tiny", "--yes", "--json"), _with_model, again=(1, 2)),
    Scene("models verify", ("maker/tiny", "--json"), _with_model),
    Scene("models pull", ("{hub}/plain/Tiny-Q4_K_M.gguf", "--json"), _home_only),
    Scene("catalog refresh", ("--from", "{hub}/plain/list.toml", "--json"), _home_only),
    Scene("catalog back", ("--json",), _with_fetched_catalog, again=(1,)),
    Scene("cache clear", ("--json",), _with_states),
    Scene("engine use", ("embedded", "--json"), _home_only),
    Scene("doctor", ("--bundle", "{work}/user/report.tar.gz", "--json"), _home_only),
    Scene("uninstall", ("--yes", "--json"), _with_everything),
    Scene("up", ("--proxy-only", "--port", "{proxy}", "--json"), **RUNNING),
    Scene("down", ("--json",), live=_proxy_alone, **RUNNING),
    Scene("restart", ("proxy", "--json"), live=_proxy_alone, long=True, **RUNNING),
    Scene("up", DEMO, long=True, **RUNNING),
    Scene("restart", ("server", "--json"), live=_demo, long=True, **RUNNING),
    Scene("bench", ("--quick", "--json"), live=_demo, long=True, **RUNNING),
)

# They leave the disk as it is, but for what only saves time.
READS = frozenset(
    {
        "plan", "status", "token", "logs", "env", "shell-init", "upstream list", "upstream test", "web-search test",
        "web-search show", "key list", "cache list", "models disk", "models find", "models list", "models show",
        "catalog show", "engine list",
    }
)  # fmt: skip
# Not here: where each is tested instead.
ELSEWHERE = {
    "claude": "it hands its process over to Claude Code: tests/system/clients/test_claude_code.py",
    "mcp": "it writes nothing: tests/system/clients/test_mcp.py",
    "serve-proxy": "the service itself: tests/support/simulation",
    "warm": "the proxy writes what it saves: tests/system/warmstart/test_interrupted_saves.py",
    "tune": "it measures for minutes: tests/system/bench/test_bench.py",
    "models cards": "it asks the hub, and writes by paths.write_atomic: tests/unit/catalog/test_shipped_models.py",
    "models update": "tests/system/models/test_model_update.py",
    "engine install": "tests/system/engine/test_engine_install.py and test_engine_release.py",
    "engine remove": "tests/system/engine/test_engine_install.py",
    "engine upgrade": "tests/system/engine/test_engine_upgrade.py",
    "engine rollback": "tests/system/engine/test_engine_upgrade.py",
}


def registered() -> Iterator[str]:
    """Every command of the program that does something, as its words."""
    from llmstack.cli.main import group
    from llmstack.commands import COMMANDS

    context = click.Context(group)
    for name in COMMANDS:
        yield from _leaves(group.get_command(context, name), name)


def _leaves(command: click.Command | None, words: str) -> Iterator[str]:
    assert command is not None
    if not isinstance(command, click.Group):
        yield words
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from _leaves(command.get_command(context, name), f"{words} {name}")
