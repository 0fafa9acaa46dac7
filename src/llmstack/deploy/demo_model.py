"""Makes the demo model on this machine, once per text it is trained on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from llmstack.paths import PACKAGE, Home

DEMO_NAME = "demo"


def ensure_demo_model(home: Home) -> Path:
    """The path of the demo GGUF, generated if it is not there; the same sources give the same file."""
    text = _training_text()
    path = home.models / f"demo-{hashlib.sha256(text.encode()).hexdigest()[:12]}.gguf"
    if path.exists():
        return path
    from llmstack.demo import build_model

    home.models.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")  # two commands may make it at once
    try:
        with partial.open("wb") as stream:
            for piece in build_model(text):
                stream.write(piece)
        _put(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _put(partial: Path, path: Path) -> None:
    """The file that came first stays: another command may have planned with it, and would find it changed."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return
    except OSError:  # a disk without hard links
        partial.replace(path)


def is_demo_model(home: Home, path: Path) -> bool:
    return path.parent == home.models and path.name.startswith("demo-")


def prune_demo_models(home: Home, used: Path) -> None:
    """Removes demo models of other releases, once a stack on this one has answered: till then they are the way back."""
    if is_demo_model(home, used):
        for older in home.models.glob("demo-*.gguf"):
            if older != used:
                older.unlink(missing_ok=True)


def _training_text() -> str:
    """The project's own text: the sources of this package."""
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(PACKAGE.rglob("*.py")))
