"""Whether a pulled file is still what its repository has under that name: told, never taken in silence.

The record beside a file holds the address it came from, with its commit, and its SHA-256.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import msgspec

from llmstack.catalog.models import is_file, is_repo
from llmstack.commands import command_line
from llmstack.errors import MissingPart, StackError
from llmstack.fetch import hub, models_dir, moved
from llmstack.paths import Home


class UpstreamState(enum.StrEnum):
    """What became of a file where it came from."""

    SAME = "same"
    REPLACED = "replaced"  # other bytes under the same name
    RENAMED = "renamed"  # the same bytes have another name there
    GONE = "gone"
    UNASKED = "not asked"  # it is from no hub, or has no digest


class UpstreamFile(msgspec.Struct, frozen=True):
    """One pulled file. name: OWNER/REPO/FILE. revision: the commit that it is of. now: the commit that has other bytes
    under that name, or the same bytes under another. why: of RENAMED, GONE and UNASKED. next: the command that helps,
    empty where nothing is to be done."""

    name: str
    path: str
    state: UpstreamState
    revision: str = ""
    now: str = ""
    why: str = ""
    next: str = ""


def check(home: Home) -> Iterator[UpstreamFile]:
    """Every whole file of the store, one question to the hub for each. Raises MissingPart offline, or without a hub."""
    if hub.offline():
        raise MissingPart("whether a file changed is asked of the hub, and this is offline mode")
    for stored in models_dir.contents(home):
        if not stored.partial:
            yield state_of(stored)


def state_of(stored: models_dir.Stored) -> UpstreamFile:
    """One file. Raises MissingPart where the hub cannot be asked."""
    record = stored.record
    origin = origin_of(record.source) if record is not None else None
    if record is None or origin is None or not record.sha256:
        why = "it has no record" if record is None else "it did not come from the hub"
        return UpstreamFile(stored.path.name, str(stored.path), UpstreamState.UNASKED, why=why)
    repo, revision, file = origin
    name, path = f"{repo}/{file}", str(stored.path)
    try:
        remote = hub.describe(repo, file)
    except MissingPart:
        raise
    except StackError as error:
        there = moved.same_bytes(repo, record.sha256)
        if there is not None:
            why = f"its repository calls it {there[0]} now"
            return UpstreamFile(name, path, UpstreamState.RENAMED, revision, there[1], why)
        return UpstreamFile(name, path, UpstreamState.GONE, revision, why=error.what, next=moved.next_step(repo, file))
    now = (origin_of(remote.url) or ("", "", ""))[1]
    if not remote.sha256 or remote.sha256 == record.sha256:
        return UpstreamFile(name, path, UpstreamState.SAME, revision, now)
    update = command_line("models", "update", f"{repo}/{file}")
    return UpstreamFile(name, path, UpstreamState.REPLACED, revision, now, next=f"{update}   brings the new one")


def origin_of(url: str) -> tuple[str, str, str] | None:
    """Repository, revision and file of an address on the hub: /OWNER/REPO/resolve/REVISION/FILE."""
    parts = [unquote(part) for part in urlsplit(url).path.split("/") if part]
    if len(parts) < 5 or parts[2] != "resolve":
        return None
    repo, file = "/".join(parts[:2]), "/".join(parts[4:])
    return (repo, parts[3], file) if is_repo(repo) and is_file(file) else None
