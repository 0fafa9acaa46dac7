"""Which bytes were seen under which name: other bytes under a known name are not taken in silence."""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmstack.engine.find import engines_folder
from llmstack.errors import MissingPart, NotSo
from llmstack.paths import Home, write_private
from llmstack.release.assets import Asset


def expected(home: Home, asset: Asset) -> str:
    """The SHA-256 that an archive must have.

    Raises NotSo where the release states another one than the bytes that were installed from this name before;
    MissingPart where nobody states one.
    """
    before = _read(home).get(asset.name, "")
    if before and asset.sha256 and before != asset.sha256:
        raise NotSo(
            f"{asset.name} is not the file that it was: its release states SHA-256 {asset.sha256}",
            why=f"what was installed from that name here had {before}: somebody uploaded other bytes under it",
            next=f"take another release; if you know why, remove its line from {_file(home)}",
        )
    if not (before or asset.sha256):
        raise MissingPart(
            f"the release states no SHA-256 for {asset.name}", why="so nobody can say whether it came whole",
            next="download it yourself, check it, and give it with --archive and --sha256",
        )  # fmt: skip
    return asset.sha256 or before


def remember(home: Home, sums: dict[str, str]) -> None:
    write_private(_file(home), msgspec.json.format(msgspec.json.encode(_read(home) | sums), indent=2) + b"\n")


def _file(home: Home) -> Path:
    return engines_folder(home) / "digests.json"


def _read(home: Home) -> dict[str, str]:
    try:
        return msgspec.json.decode(_file(home).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
