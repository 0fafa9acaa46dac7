"""Our unit files on disk: read, written whole or not at all, and never somebody else's.

A symlink or a unit without our mark in our place is refused: writing through it would change a file that
is not ours (fault 28).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmstack.errors import NotSo
from llmstack.paths import write_atomic
from llmstack.units import UnitOrigin, origin


@dataclass(frozen=True, slots=True)
class UnitFolder:
    """path: where units live. suffix: of our names. made: a file that lists the folders we had to create."""

    path: Path
    suffix: str
    made: Path

    def file(self, unit: str) -> Path:
        return self.path / unit

    def installed(self) -> dict[str, str]:
        """Our units by name, edited ones included. Raises NotSo for a symlink or something odd in our place."""
        units = {}
        for name in self._names():
            text = self.read(name)
            if text is not None and origin(text) is not UnitOrigin.FOREIGN:
                units[name] = text
        return units

    def read(self, unit: str) -> str | None:
        """None when there is no such file. Raises NotSo."""
        path = self.file(unit)
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(mode):
            raise NotSo(
                f"{path} is {'a symlink' if stat.S_ISLNK(mode) else 'no regular file'}, so it is left alone",
                why="writing there would change something that llmstack did not make",
                next=f"ls -l '{path}'   then move it away and run the command again",
            )
        return path.read_text(encoding="utf-8", errors="surrogateescape")

    def refuse_foreign(self, units: Iterable[str]) -> None:
        """Raises NotSo when one of these names is taken by a unit we did not write."""
        for unit in units:
            text = self.read(unit)
            if text is not None and origin(text) is UnitOrigin.FOREIGN:
                raise NotSo(
                    f"{self.file(unit)} was not written by llmstack, so it is left alone",
                    why="it lacks the mark that every unit of ours ends with",
                    next=f"move it away: mv '{self.file(unit)}' '{self.file(unit)}.mine'",
                )

    def write(self, unit: str, text: str) -> None:
        """Temporary file, fsync, rename, fsync of the folder."""
        self._make()
        path = self.file(unit)
        write_atomic(path, text.encode("utf-8", "surrogateescape"), 0o600)
        _sync_folder(self.path)

    def delete(self, unit: str) -> None:
        self.file(unit).unlink(missing_ok=True)

    def drop_ins(self, unit: str) -> tuple[Path, ...]:
        """The user's own additions: read by systemd after our unit, never touched by us."""
        return tuple(sorted((self.path / f"{unit}.d").glob("*.conf")))

    def written_at(self, unit: str) -> float:
        """Epoch seconds of the latest change to the unit or one of its drop-ins; 0 when there is none."""
        times = [p.stat().st_mtime for p in (self.file(unit), *self.drop_ins(unit)) if p.exists()]
        return max(times, default=0.0)

    def sweep(self) -> None:
        """Removes temporary files that a crash left behind."""
        for path in self.path.glob(f".llmstack-*{self.suffix}.service.*"):
            path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Removes the folders we made, as far as they are empty."""
        if not self.made.exists():
            return
        for line in reversed(self.made.read_text(encoding="utf-8").splitlines()):
            folder = Path(line)
            wants = folder / "default.target.wants"
            for candidate in (wants, folder):
                if candidate.is_dir() and not any(candidate.iterdir()):
                    candidate.rmdir()
        self.made.unlink()

    def _names(self) -> list[str]:
        # `llmstack-server.service` of the default home must not match `llmstack-server-1a2b3c4d.service`.
        names = []
        for path in self.path.glob(f"llmstack-*{self.suffix}.service"):
            service = path.name.removeprefix("llmstack-").removesuffix(f"{self.suffix}.service")
            if service.isalpha():
                names.append(path.name)
        return sorted(names)

    def _make(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        if not missing:
            return
        self.made.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = self.made.read_text(encoding="utf-8").splitlines() if self.made.exists() else []
        self.made.write_text("\n".join([*lines, *(str(f) for f in reversed(missing))]) + "\n", encoding="utf-8")
        self.path.mkdir(parents=True, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
