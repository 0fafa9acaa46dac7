"""The coding agents of others that `llmstack launch` starts: how each is installed, asked, and answered by a script."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmstack.launch.agents import AGENTS
from support.programs import npm_package, python_from, python_program
from support.streams import DONE, finish, text, tool, usage
from support.upstream import Asked, Wire

NODE = "22.19.0"  # the oldest that all of them run on
DAY = "2026-11-28"  # of what the Python ones need, nothing newer
FILES = ("first.txt", "second.txt", "third.txt")
LAST = "All three are done."
TASK = "Make three files"
_EDITS = tuple(f"Make the file {name}" for name in FILES)

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class TriedAgent:
    """package: of npm, or of PyPI where python is set, its oldest minor version. arguments: what starts a task without
    questions. calls: what it is told to do, given its folder; none: it edits by text, asked line by line."""

    package: str
    arguments: Sequence[str]
    calls: Callable[[Path], Sequence[Call]] | None
    python: int | None = None

    def folder(self, version: str) -> Path:
        """Of its program, in that version."""
        if self.python is not None:
            return python_program(f"{self.package}=={version}", python_from(self.python), DAY)
        return npm_package(str(shutil.which("npm")), f"{self.package}@{version}")

    def input(self) -> str | None:
        return None if self.calls is not None else "".join(f"{line}\n" for line in _EDITS)


def _calls(
    shell: str, write: str, place: str = "path", content: str = "content", **more: Any
) -> Callable[[Path], Sequence[Call]]:
    """A command, a file, a command, by the names these and their arguments go under there. more: of the shell's."""

    def calls(work: Path) -> Sequence[Call]:
        return (
            (shell, {"command": _FIRST, **more}),
            (write, {place: str(work / FILES[1]), content: "two\n"}),
            (shell, {"command": _LAST, **more}),
        )

    return calls


_FIRST = f"echo one > {FILES[0]}"
_LAST = f"cat {FILES[0]} {FILES[1]} > {FILES[2]}; cat {FILES[2]}"


def _cline(work: Path) -> Sequence[Call]:
    _, second, _ = _calls("", "editor", content="new_text")(work)
    return ("run_commands", {"commands": [_FIRST]}), second, ("run_commands", {"commands": [_LAST]})


def _codex(work: Path) -> Sequence[Call]:
    patch = f"*** Begin Patch\n*** Add File: {FILES[1]}\n+two\n*** End Patch\n"
    return ("exec_command", {"cmd": _FIRST}), ("apply_patch", {"input": patch}), ("exec_command", {"cmd": _LAST})


_CODEX_ARGUMENTS = ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", TASK)
_AIDER_ARGUMENTS = (
    "--yes-always", "--no-git", "--no-pretty", "--no-fancy-input", "--no-show-release-notes",
    "--no-show-model-warnings",
)  # fmt: skip
TRIED = {
    "codex": TriedAgent("@openai/codex", _CODEX_ARGUMENTS, _codex),
    "opencode": TriedAgent("opencode-ai", ("run", "--title", "t", TASK), _calls("bash", "write", "filePath")),
    "qwen": TriedAgent(
        "@qwen-code/qwen-code",
        ("--yolo", "-p", TASK),
        _calls("run_shell_command", "write_file", "file_path", is_background=False),
    ),
    "copilot": TriedAgent(
        "@github/copilot",
        ("--allow-all-tools", "-p", TASK),
        _calls("bash", "create", content="file_text", description="makes a file"),
    ),
    "pi": TriedAgent("@earendil-works/pi-coding-agent", ("-p", TASK), _calls("bash", "write")),
    "cline": TriedAgent("cline", (TASK,), _cline),
    "continue": TriedAgent("@continuedev/cli", ("--auto", "-p", TASK), _calls("Bash", "Write", "filepath")),
    "gemini": TriedAgent(
        "@google/gemini-cli",
        ("--yolo", "--skip-trust", "-p", TASK),
        _calls("run_shell_command", "write_file", "file_path"),
    ),
    "vibe": TriedAgent("mistral-vibe", ("--trust", "--yolo", "-p", TASK), _calls("bash", "write_file"), python=12),
    "hermes": TriedAgent(
        "hermes-agent", ("chat", "--yolo", "-Q", "-q", TASK), _calls("terminal", "write_file"), python=11
    ),
    "aider": TriedAgent("aider-chat", _AIDER_ARGUMENTS, None, python=11),
}


# What somebody may have in their own settings. Each of them reads this.
OWN_SETTINGS = {
    "codex": (".codex/config.toml", '# mine\nmodel = "gpt-6"  # the best\n\n[analytics]\nenabled = false\n'),
    "opencode": (
        ".config/opencode/opencode.json",
        '{\n  // mine\n  "$schema": "https://opencode.ai/config.json",\n  "model": "openai/gpt-6",\n}\n',
    ),
    "pi": (".pi/agent/models.json", '{\n  // none yet\n  "providers": {}\n}\n'),
    "continue": (
        ".continue/config.yaml",
        "name: Mine\nversion: 1.0.0\nschema: v1\nmodels:\n  # the best\n  - name: theirs\n    provider: openai\n"
        "    model: gpt-6\n    apiKey: none\n",
    ),
    "qwen": (".qwen/settings.json", '{\n  "privacy": {"usageStatisticsEnabled": false}\n}\n'),
}


def node() -> Path:
    """The folder of a Node.js that all of them run on, from npm."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    package = f"node-linux-{machine}"
    folder = npm_package(str(shutil.which("npm")), f"{package}@{NODE}").parent
    return folder / package / "bin"


def script(tried: TriedAgent, work: Path) -> Callable[[Asked, Wire], Any]:
    """The model's side: three calls, one after another, then a sentence. What comes next follows from what was sent."""
    calls = tried.calls(work) if tried.calls is not None else ()

    async def answer(asked: Asked, wire: Wire) -> None:
        messages = asked.json["messages"]
        if tried.calls is None:
            name = FILES[sum(_is_edit(message) for message in messages) - 1]
            whole = f"Done.\n\n{name}\n```\nmade\n```\n"
            await wire.stream(text(whole) + finish() + usage(100, 9, 50) + DONE)
            return
        results = sum(message["role"] == "tool" for message in messages)
        if results == len(calls):
            await wire.stream(text(LAST) + finish() + usage(200, 5, 150) + DONE)
            return
        name, given = calls[results]
        call = tool(0, f"call_{results}00000000", name, json.dumps(given))
        await wire.stream(call + finish("tool_calls") + usage(100 + results, 9, 50) + DONE)

    return answer


def _is_edit(message: Mapping[str, Any]) -> bool:
    return message["role"] == "user" and message["content"] in _EDITS


def kept_share(bodies: Sequence[Mapping[str, Any]]) -> float:
    """How much of a prompt the next one begins with, at the worst: of tools and messages as they were sent."""
    prompts = [_rendered(body) for body in bodies]
    return min(_alike(one, two) / len(one) for one, two in itertools.pairwise(prompts))


def _alike(one: str, two: str) -> int:
    """How many characters they begin with alike."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(two)))


def _rendered(body: Mapping[str, Any]) -> str:
    parts = [body.get("tools") or [], *body["messages"]]
    return "\n".join(json.dumps(part, ensure_ascii=False) for part in parts)


def row(name: str, path: str, share: float) -> str:
    """Its line in the table of docs/other-clients.md."""
    agent = AGENTS[name]
    works = "three calls, one after another" if TRIED[name].calls is not None else "three edits, one after another"
    return f"| {agent.title} | {agent.version} | `{path}` | {works} | {agent.note or '–'} | {share:.0%} |"
