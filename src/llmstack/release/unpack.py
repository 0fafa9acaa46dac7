"""Programs and libraries out of a release's archive, and nothing else, into one flat folder.

The archives have one top folder (`llama-b12345/`). What lies deeper is left out; what would write anywhere else, or
more than a release can have, is refused before the first byte is written.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from pathlib import Path

from llmstack.errors import NotSo

MOST_MEMBERS = 4000
MOST_BYTES = 12 << 30
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]{0,199}")
_LIBRARY = re.compile(r".+\.(so|dylib)(\.[\w.]+)?")


def unpack(archive: Path, target: Path, *, libraries_only: bool = False) -> int:
    """The number of files that were written. `target` must be there.

    Raises NotSo for an archive that is cut off, or that holds what a release does not.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = _checked(tar)
            written = 0
            for name, member in members:
                if libraries_only and not _LIBRARY.fullmatch(name):
                    continue
                written += _write(tar, member, target / name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the archive
        raise NotSo(f"{archive.name} cannot be unpacked: {error}", why="it is cut off, or no archive at all") from None
    if not written:
        raise _refused(archive.name, "it holds no file of a release")
    return written


def _checked(tar: tarfile.TarFile) -> list[tuple[str, tarfile.TarInfo]]:
    """The members of the top folder by their plain names, all of the archive looked at first."""
    files, total, tops = [], 0, set()
    for number, member in enumerate(tar):
        if number >= MOST_MEMBERS:
            raise _refused(tar_name(tar), f"it has more than {MOST_MEMBERS} members")
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts:
            raise _refused(tar_name(tar), f"a name in it leads out of its folder: {member.name[:80]!r}")
        if not (member.isreg() or member.isdir() or member.issym()):
            raise _refused(tar_name(tar), f"{member.name[:80]!r} is neither a file nor a folder")
        total += max(member.size, 0)
        if total > MOST_BYTES:
            raise _refused(tar_name(tar), f"it unpacks to more than {MOST_BYTES >> 30} GiB")
        tops.update(parts[:1])
        if member.isdir() or len(parts) != 2:
            continue
        if member.issym() and not _NAME.fullmatch(member.linkname):
            raise _refused(tar_name(tar), f"a link in it leads out of its folder: {member.linkname[:80]!r}")
        if not _NAME.fullmatch(parts[1]):
            raise _refused(tar_name(tar), f"a file in it is called {parts[1][:80]!r}")
        files.append((parts[1], member))
    if len(tops) > 1:
        raise _refused(tar_name(tar), "it has more than one top folder")
    return files


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
        return 1
    source = tar.extractfile(member)
    assert source is not None
    left = member.size
    with source, path.open("xb") as sink:
        while left:
            piece = source.read(min(left, 1 << 20))
            if not piece:
                raise EOFError(f"{member.name} ends early")
            sink.write(piece)
            left -= len(piece)
    path.chmod(0o755 if member.mode & 0o111 or _LIBRARY.fullmatch(path.name) else 0o644)
    return 1


def tar_name(tar: tarfile.TarFile) -> str:
    return Path(str(tar.name)).name


def _refused(name: str, why: str) -> NotSo:
    return NotSo(f"{name} is refused: {why}", next="download it again from the release's own page")
