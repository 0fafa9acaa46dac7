"""Gets one file over HTTP: resumed where it stopped, checked whole, and only then given its name.

A file is old or new, never torn: bytes go to `.NAME.part`, and its final name is given by one rename after
size, SHA-256 and header were checked. What the server says about ranges is checked, not trusted: a 200 or a
416 to a range restarts cleanly, a 206 must start where it was asked to and have the same length in total.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.commands import command_line
from llmstack.errors import Interrupted, MissingPart, NotSo
from llmstack.fetch import trust
from llmstack.fetch.progress import OnTransfer, Stage, TransferProgress, quiet
from llmstack.gguf import GgufError, printable
from llmstack.paths import write_atomic
from llmstack.sizes import bytes_text

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 20
RESERVE = 256 << 20  # bytes of disk that a download leaves free
ATTEMPTS = 8  # in a row without one new byte
FIRST_ATTEMPTS = 4  # of a server that has not sent one yet: its person waits for the first sign of life
MISTAKES = 3  # of a server, in one download: what no waiting mends
_BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server. size and sha256 as far as known (0, ""); hub: the hub's redirect rules apply.

    endpoint: the only address the token in `headers` is sent to. etag: what a resumed download must still be.
    """

    url: str
    name: str
    size: int = 0
    sha256: str = ""
    etag: str = ""
    hub: bool = False
    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    allow_hosts: tuple[str, ...] = ()


class PartialDownload(msgspec.Struct, frozen=True):
    """Beside an unfinished file: what it is a part of, so that no two versions are ever joined."""

    url: str
    size: int
    sha256: str
    etag: str


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    size: int
    sha256: str
    already: bool


class Broken(Exception):
    """The connection ended early; the rest is asked for again."""


class Mistaken(Broken):
    """The server answered something else than it was asked for."""


def fetch(
    remote: Remote,
    target: Path,
    *,
    on_progress: OnTransfer = quiet,
    check: Callable[[Path], None] | None = None,
    record: Callable[[Path, str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Gets `remote` into `target`; a second fetch of the same target waits for the first and uses its file.

    check: raises for content that must not get the final name (a broken header). record(path, sha256): notes what it
    is, before it gets its name: no file is without. Raises NotSo (wrong hash,
    refused redirect, wrong content), MissingPart (disk, network, server), Interrupted (ctrl-C; the part stays).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target, on_progress):
        if target.is_file():
            return Fetched(target, target.stat().st_size, "", True)
        job = _Job(remote, target, on_progress, sleep)
        try:
            digest = job.run()
        except KeyboardInterrupt:
            raise Interrupted(
                f"the download of {remote.name} was stopped; {bytes_text(job.have)} are kept",
                next="the same command again goes on from there",
            ) from None
        except OSError as error:
            raise _disk_error(error, job) from None
        if check is not None:
            try:
                check(job.part)
            except GgufError as error:
                path = job.quarantine()
                error.why = f"{error.why + '; ' if error.why else ''}kept aside as {path}"
                raise
        if record is not None:
            record(job.part, digest)
        job.part.replace(target)
        job.note.unlink(missing_ok=True)
        _sync(target.parent)
        on_progress(TransferProgress(Stage.READY, remote.name, job.have, job.have))
        return Fetched(target, job.have, digest, False)


class _Job:
    """One download: `have` bytes are on disk and in `hash`."""

    def __init__(self, remote: Remote, target: Path, on_progress: OnTransfer, sleep: Callable[[float], None]) -> None:
        self.remote, self.target, self.on_progress, self.sleep = remote, target, on_progress, sleep
        self.part = target.with_name(f".{target.name}.part")
        self.note = target.with_name(f".{target.name}.part.json")
        self.size = remote.size
        self.etag = remote.etag
        self.have = 0
        self.hash = hashlib.sha256()
        self.mistakes = 0

    def run(self) -> str:
        """Downloads what is missing and returns the SHA-256 of the whole."""
        import httpx

        self._take_up()
        self._check_disk()
        idle, attempts = 0, FIRST_ATTEMPTS
        timeout = httpx.Timeout(30.0, connect=15.0)
        with httpx.Client(timeout=timeout, follow_redirects=False, headers={"Accept-Encoding": "identity"}) as client:
            while not self._complete():
                before = self.have
                try:
                    self._once(client)
                except (Broken, httpx.TransportError) as error:
                    self._count_mistake(error)
                    idle, attempts = (0, ATTEMPTS) if self.have > before else (idle + 1, attempts)
                    if idle >= attempts:
                        raise MissingPart(
                            f"the download of {self.remote.name} broke off {attempts} times in a row",
                            why=f"{type(error).__name__}: {error}; {bytes_text(self.have)} are kept",
                            next="the same command again goes on from there",
                        ) from None
                    wait = _BACKOFF[min(idle, len(_BACKOFF) - 1)] if idle else 0.0
                    self._tell(Stage.RETRYING, str(error))
                    if wait:
                        self.sleep(wait)
        digest = self.hash.hexdigest()
        self._check_whole(digest)
        return digest

    def _count_mistake(self, error: Exception) -> None:
        """Raises NotSo for a server that stays wrong: it is not asked for a minute and more."""
        if not isinstance(error, Mistaken) and not _is_for_good(error):
            return
        self.mistakes += 1
        if self.mistakes >= MISTAKES:
            raise NotSo(
                f"{printable(self.remote.name)} cannot be had from {printable(self.remote.url)}",
                why=f"{printable(str(error))}; it was tried {MISTAKES} times",
                next="check the address, or try another source: a mirror is named by HF_ENDPOINT",
            ) from None

    def quarantine(self) -> Path:
        """Moves bad bytes out of the way, so that they are neither resumed nor used."""
        aside = self.part.with_name(f"{self.target.name}.quarantined")
        self.part.replace(aside)
        self.note.unlink(missing_ok=True)
        return aside

    def _take_up(self) -> None:
        """Goes on with a part of the same file, or starts anew."""
        note = _read_note(self.note)
        download = PartialDownload(self.remote.url, self.remote.size, self.remote.sha256, self.remote.etag)
        if note is not None and self.part.is_file() and _same(note, download):
            self.size = self.size or note.size
            self.etag = self.etag or note.etag
            total = self.part.stat().st_size
            if self.size and total > self.size:
                os.truncate(self.part, self.size)
                total = self.size
            with self.part.open("rb") as stream:
                while chunk := stream.read(4 * CHUNK):
                    self.hash.update(chunk)
                    self.have += len(chunk)
                    self.on_progress(TransferProgress(Stage.CHECKING, self.remote.name, self.have, total))
        else:
            self._restart()
        self._write_note()

    def _restart(self) -> None:
        self.part.write_bytes(b"")
        self.have, self.hash = 0, hashlib.sha256()

    def _write_note(self) -> None:
        note = PartialDownload(self.remote.url, self.size, self.remote.sha256, self.etag)
        write_atomic(self.note, msgspec.json.encode(note), 0o644)

    def _check_disk(self) -> None:
        missing = max(self.size - self.have, 0)
        free = shutil.disk_usage(self.target.parent).free
        if missing and free < missing + RESERVE:
            raise MissingPart(
                f"{self.remote.name} needs {bytes_text(missing)} more on this disk, and {bytes_text(free)} are free",
                why=f"in {self.target.parent}; {bytes_text(RESERVE)} stay free",
                next=f"{command_line('models', 'remove', 'NAME')}, or set LLMSTACK_HOME to a folder on a larger disk",
            )

    def _complete(self) -> bool:
        return bool(self.size) and self.have == self.size

    def _once(self, client: httpx.Client) -> None:
        """One request, and its body onto the part."""
        headers = {}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.etag and not self.etag.startswith("W/"):
                headers["If-Range"] = self.etag
        with opened(client, self.remote, headers) as response:
            if not self._accept(response):
                return
            with self.part.open("r+b") as stream:
                stream.seek(self.have)
                last = time.monotonic()
                try:
                    for (
                        chunk
                    ) in response.iter_raw():  # as it comes: a chunk size would hold bytes back, and lose them at a cut
                        if self.size and self.have + len(chunk) > self.size:
                            raise NotSo(
                                f"the server sends more bytes than {self.remote.name} has ({self.size})",
                                next="try again later, or another mirror: HF_ENDPOINT",
                            )
                        stream.write(chunk)
                        self.hash.update(chunk)
                        self.have += len(chunk)
                        if time.monotonic() - last > 0.1:
                            last = time.monotonic()
                            self._tell(Stage.DOWNLOADING)
                finally:
                    stream.flush()
                    os.fsync(stream.fileno())
            self._tell(Stage.DOWNLOADING)
        if not self.size:
            self.size = self.have  # the server never said how long it is, and ended cleanly
            self._write_note()
        if self.have < self.size:
            raise Broken(f"the connection ended at {self.have} of {self.size} bytes")

    def _accept(self, response: httpx.Response) -> bool:
        """Whether the body goes onto the part. Restarts the part where the server starts from zero."""
        status = response.status_code
        if status == 206 and self.have:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("content-range", ""))
            total = int(match[3]) if match and match[3] != "*" else 0
            if match is None or int(match[1]) != self.have or (self.size and total and total != self.size):
                self._restart()
                raise Mistaken("the server answered with another range than the one asked for: from the start again")
            self.size = self.size or total
            return True
        if status == 200:
            if self.have:
                self._tell(Stage.RETRYING, "the server does not resume this file: from the start again")
                self._restart()
            length = response.headers.get("content-length", "")
            size = int(length) if length.isdigit() else 0
            if self.size and size and size != self.size:
                raise NotSo(
                    f"the server has {size} bytes for {self.remote.name}, {self.size} were expected",
                    why="the file was replaced, or a proxy answers in its place",
                    next=f"{command_line('models', 'show', 'NAME')}   says what is expected",
                )
            self.size = self.size or size
            self.etag = self.etag or response.headers.get("etag", "")
            self._write_note()
            self._check_disk()
            return True
        if status == 416 and self.have:
            match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("content-range", ""))
            if match and int(match[1]) == self.have and not self.size:
                self.size = self.have
                return False
            self._restart()
            raise Mistaken("the server has no such range: from the start again")
        raise _status_error(response, self.remote)

    def _check_whole(self, digest: str) -> None:
        if self.remote.sha256 and digest != self.remote.sha256:
            path = self.quarantine()
            raise NotSo(
                f"{self.remote.name} is not what it should be: its SHA-256 is {digest}, "
                f"{self.remote.sha256} was expected",
                why=f"it was damaged on the way, or replaced at its source; kept aside as {path}",
                next="pull it again; if it stays so, do not use that source",
            )

    def _tell(self, stage: Stage, note: str = "") -> None:
        self.on_progress(TransferProgress(stage, self.remote.name, self.have, self.size, note))


@contextlib.contextmanager
def opened(client: httpx.Client, remote: Remote, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    """A streamed GET; redirects are followed by hand, each one judged, the token sent to its endpoint only."""
    url = remote.url
    for _ in range(trust.MAX_REDIRECTS + 1):
        own = remote.headers if not remote.endpoint or trust.may_send_token(remote.endpoint, url) else {}
        with client.stream("GET", url, headers={**own, **headers}) as response:
            if not response.has_redirect_location:
                yield response
                return
            target = str(response.url.join(response.headers["location"]))
        trust.check(url, target, hub=remote.hub, extra=remote.allow_hosts)
        url = target
    raise NotSo(f"{remote.name}: more than {trust.MAX_REDIRECTS} redirects", next="try another source")


def _status_error(response: Any, remote: Remote) -> Exception:
    status = response.status_code
    if status in _TRANSIENT:
        return Broken(f"the server answered {status}")
    shown = printable(remote.name)
    if status in (401, 403):
        return MissingPart(
            f"{shown} needs permission (the server answered {status})",
            why="the model asks for a licence to be accepted first, or the token is missing or wrong",
            next="accept it on the model's page, then set HF_TOKEN or run: hf auth login",
        )
    if status == 404:
        return NotSo(
            f"{shown} is not at {printable(remote.url)}", next=f"{command_line('models', 'list')}   shows known names"
        )
    return NotSo(f"the server answered {status} for {shown}", next="try again later")


@contextlib.contextmanager
def only_one(target: Path, on_progress: OnTransfer = quiet) -> Iterator[None]:
    """Holds the lock of one target file; waits for whoever holds it, and says so."""
    lock = target.with_name(f".{target.name}.lock")
    while True:
        with lock.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                on_progress(
                    TransferProgress(
                        Stage.WAITING, target.name, note="another download of this file runs: waiting for it"
                    )
                )
                fcntl.flock(stream, fcntl.LOCK_EX)
            if not _still(lock, stream.fileno()):
                continue  # the one before removed it: take the new one
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


# "peer closed connection", "Server disconnected": httpx calls a cut connection a breach of the protocol too.
_CUT = ("closed", "disconnected")
_FOR_GOOD = ("CERTIFICATE_VERIFY_FAILED", "Name or service not known", "nodename nor servname", "WRONG_VERSION_NUMBER")


def _is_for_good(error: Exception) -> bool:
    """A name that does not exist, a certificate that does not fit, or what is no HTTP."""
    import httpx

    text = str(error)
    if isinstance(error, httpx.RemoteProtocolError):
        return not any(word in text for word in _CUT)
    return isinstance(error, httpx.UnsupportedProtocol) or any(word in text for word in _FOR_GOOD)


def _same(note: PartialDownload, download: PartialDownload) -> bool:
    """Whether a part belongs to the file that is wanted now: by hash, else by address, size and version tag."""
    if download.sha256 or note.sha256:
        return note.sha256 == download.sha256
    if download.etag or note.etag:
        return note.url == download.url and (not download.etag or note.etag == download.etag)
    return note.url == download.url and (not download.size or note.size == download.size)


def _read_note(path: Path) -> PartialDownload | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PartialDownload)
    except (OSError, msgspec.DecodeError):
        return None


def _disk_error(error: OSError, job: _Job) -> MissingPart:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MissingPart(
            f"the disk is full: {bytes_text(max(job.size - job.have, 0))} of {job.remote.name} are still to come",
            why=f"{bytes_text(job.have)} are kept in {job.target.parent}",
            next=(
                f"free some space ({command_line('models', 'remove', 'NAME')}), "
                "then run the same command again: it goes on"
            ),
        )
    return MissingPart(
        f"{job.target.parent} cannot be written: {error.strerror}", next="check the folder's permissions"
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
