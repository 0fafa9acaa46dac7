"""Removes our folders, over links and mounted disks: whoever keeps models on another disk put one of them there.

| what stands in the way                 | what happens                                                     |
| -------------------------------------- | ---------------------------------------------------------------- |
| one of the four folders is a link      | its content goes, then the link, then the target if it is empty  |
| the models' folder is a link           | likewise, but files without a record of ours stay, and are named |
| another link                           | it goes; a folder that it leads to stays, and is named           |
| a disk is mounted on a folder          | its content goes, the empty folder stays, and is named           |
| a link leads to a whole disk or a home | it goes; what it leads to stays, and is named                    |
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from llmstack.deploy.demo_model import is_demo_model
from llmstack.fetch.models_dir import read_record, record_path
from llmstack.paths import Home


@dataclass(frozen=True, slots=True)
class LeftBehind:
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Removal:
    """keep: a folder that stays with all that is in it, and the way to it. remains: what is left, and why."""

    home: Home
    keep: Path | None
    remains: list[LeftBehind]

    def remove(self, folder: Path) -> None:
        """One of the home's folders. Raises OSError."""
        if not folder.is_symlink():
            self._remove(folder)
        elif self.keep is None or not self.keep.is_relative_to(folder):
            self._remove_linked(folder)
        else:
            self._empty(folder)

    def _remove(self, path: Path) -> None:
        if path == self.keep:
            return
        if path.is_symlink():
            self._unlink(path)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            self._empty(path)
            if self.keep is None or not self.keep.is_relative_to(path):
                self._rmdir(path)

    def _empty(self, folder: Path) -> None:
        """The lock goes last: till then nobody else may begin."""
        for child in sorted(folder.iterdir(), key=lambda child: child.name == self.home.deploy_lock.name):
            self._remove(child)

    def _unlink(self, link: Path) -> None:
        if link == self.home.models and link.is_dir():
            self._remove_linked(link)
            return
        if link.is_dir():
            self.remains.append(LeftBehind(str(link.resolve()), f"{link} was a link to it"))
        link.unlink()

    def _remove_linked(self, link: Path) -> None:
        target = link.resolve()
        if not target.is_dir():
            pass
        elif _is_broad(target):
            self.remains.append(LeftBehind(str(target), f"{link} was a link to it, and it may hold files of others"))
        else:
            if link == self.home.models:
                self._remove_own_models(link)
            else:
                self._empty(link)
            if any(target.iterdir()):
                self.remains.append(LeftBehind(str(target), f"{link} was a link to it, and these files are not ours"))
            else:
                target.rmdir()
        link.unlink()

    def _remove_own_models(self, folder: Path) -> None:
        """Files with a record beside them, what a download left, and the demo model."""
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif _is_of_a_download(path) or read_record(path) is not None or is_demo_model(self.home, path):
                path.unlink(missing_ok=True)
                if not path.name.startswith("."):
                    record_path(path).unlink(missing_ok=True)

    def _rmdir(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno == errno.EBUSY:
                self.remains.append(LeftBehind(str(folder), "a disk is mounted there; it is empty now"))
            elif error.errno != errno.ENOTEMPTY:  # somebody else began anew there
                raise


def _is_of_a_download(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith((".part", ".part.json", ".lock", ".partial"))


def _is_broad(folder: Path) -> bool:
    return os.path.ismount(folder) or Path.home().is_relative_to(folder)
