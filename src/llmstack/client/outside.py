"""What this program left outside its own folders, at the user's word: it leads to nothing once the stack is gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from llmstack.deploy.removal import LeftBehind
from llmstack.paths import Home, write_private

# Where docs/claude-code.md says to put the shell functions.
_STARTUP_FILES = (
    ".bashrc", ".bash_profile", ".profile", ".zshrc", ".config/fish/config.fish",
    ".config/powershell/Microsoft.PowerShell_profile.ps1",
)  # fmt: skip
# What they call: llmstack by any path, or `stack` of a checkout. Not a comment.
_CALLS_US = re.compile(r"^(?!\s*#).*\b(?:llmstack|stack)['\"]?\s+(?:shell-init|env)\b")


class OllamaModel(msgspec.Struct, frozen=True):
    """A model that `upstream add` made in an Ollama, for its context. base: the Ollama's address."""

    base: str
    name: str


def remember_ollama_model(home: Home, base: str, name: str) -> None:
    models = dict.fromkeys((*ollama_models(home), OllamaModel(base, name)))
    write_private(_record(home), msgspec.json.encode(list(models)))


def ollama_models(home: Home) -> tuple[OllamaModel, ...]:
    try:
        return msgspec.json.decode(_record(home).read_bytes(), type=tuple[OllamaModel, ...])
    except (FileNotFoundError, msgspec.DecodeError):
        return ()


def remains(home: Home) -> tuple[LeftBehind, ...]:
    """What `uninstall` leaves to the user, each with what to do."""
    made = (
        LeftBehind(model.name, f"it was made in the Ollama at {model.base}; take it out: ollama rm {model.name}")
        for model in ollama_models(home)
    )
    return (*made, *_startup_lines(Path(os.environ.get("HOME") or Path.home())))


def _startup_lines(user: Path) -> Iterator[LeftBehind]:
    for name in _STARTUP_FILES:
        try:
            lines = (user / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, start=1):
            if _CALLS_US.search(line):
                yield LeftBehind(f"{user / name}:{number}", "a line of yours that calls this program: delete it")


def _record(home: Home) -> Path:
    return home.state / "ollama-models.json"
