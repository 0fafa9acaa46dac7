"""A newer catalog from an address that the user configured: checked by its digest, the one before it kept.

It lies in data/catalog under its digest; `taken.json` names the one in use and the one before it, so that going back
is one write. None is configured by default.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from llmstack.catalog import fetched
from llmstack.catalog.fetched import EntryDifference
from llmstack.catalog.models import Catalog, read_models
from llmstack.catalog.overlay import load
from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.fetch import hub
from llmstack.fetch.catalog_in_use import CatalogState, TakenCatalog, place_of, state, text_in_use, text_of
from llmstack.paths import Home, catalog_texts, write_private

TIMEOUT_S = 20.0
_DIGEST = re.compile(r"\b[0-9a-fA-F]{64}\b")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """taken: what was fetched. is_new: whether it differs from the one in use. changes: what it makes otherwise."""

    taken: TakenCatalog
    is_new: bool
    changes: tuple[EntryDifference, ...]


def configured(home: Home) -> Mapping[str, str]:
    """[catalog] of the user's models.toml: url, and sha256 where one is pinned. Raises BadInput."""
    overlay = load(catalog_texts(home))
    table = overlay.table("catalog")
    for key, value in table.items():
        if key not in ("url", "sha256"):
            raise overlay.wrong(("catalog", key), "is unknown: it has url and sha256")
        if not isinstance(value, str):
            raise overlay.wrong(("catalog", key), "must be a text")
    return table


def refresh(home: Home, source: str, sha256: str = "", *, only_show: bool = False, older: bool = False) -> Refreshed:
    """Fetches a catalog, checks it, and takes it in use.

    source: an https address, or a path. sha256: what it must be; empty: what SOURCE.sha256 says. only_show: takes
    nothing. older: takes one that is older than what is here. Raises BadInput for what is no catalog, NotSo for a
    digest that differs or an older one, MissingPart for what cannot be had; what was in use then stays.
    """
    sha256 = sha256.lower()
    if sha256 and not _DIGEST.fullmatch(sha256):
        raise BadInput(f"{sha256!r} is no SHA-256", why="it has 64 hexadecimal digits")
    text = _read(source, fetched.MOST_BYTES)
    digest = hashlib.sha256(text).hexdigest()
    _check_digest(source, digest, sha256 or _beside(source))
    catalog = fetched.read(text)
    taken = TakenCatalog(
        source, digest, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), fetched.newest_day(catalog)
    )
    now = _in_effect(home, text_in_use(home))
    day = fetched.newest_day(now)
    if taken.newest < day and not older:
        raise NotSo(
            f"this catalog is older than what is here: its newest entry is of {taken.newest}, here one is of {day}",
            next=f"{command_line('catalog', 'refresh', '--allow-older')}   takes it all the same",
        )
    before = state(home)
    is_new = before.current is None or before.current.sha256 != digest
    changes = fetched.differences(now, _in_effect(home, text))
    if is_new and not only_show:
        write_private(place_of(home, digest), text)
        _write(home, CatalogState(taken, before.current))
    return Refreshed(taken, is_new, changes)


def go_back(home: Home) -> tuple[CatalogState, tuple[EntryDifference, ...]]:
    """The catalog before the one in use; what is left then, and what becomes otherwise. Raises NotSo without one."""
    now = state(home)
    _remove_unnamed(home, now)
    if now.current is None:
        raise NotSo(
            "the shipped catalog is in use, and nothing was fetched",
            next=f"{command_line('catalog', 'refresh')}   fetches a newer one",
        )
    in_use = _in_effect(home, text_in_use(home))
    after = _in_effect(home, text_of(home, now.before))  # raises before anything is written
    _write(home, CatalogState(now.before))
    return state(home), fetched.differences(in_use, after)


def _write(home: Home, new: CatalogState) -> None:
    write_private(home.data / "catalog" / "taken.json", msgspec.json.encode(new))
    _remove_unnamed(home, new)


def _remove_unnamed(home: Home, new: CatalogState) -> None:
    """Texts that it does not name; one that was killed in the middle may have left some."""
    names = {place_of(home, one.sha256) for one in (new.current, new.before) if one is not None}
    for path in (home.data / "catalog").glob("*.toml"):
        if path not in names:
            path.unlink(missing_ok=True)


def _in_effect(home: Home, text: bytes | None) -> Catalog:
    """All models, the user's own over them. Raises BadInput for what the user's file says wrong."""
    return read_models(load(catalog_texts(home), fetched=text))


def _check_digest(source: str, digest: str, expected: str) -> None:
    if not expected:
        raise MissingPart(
            f"nothing says what {source} must be",
            why=f"there is no {source}.sha256, and no sha256 was given",
            next=f'{command_line("catalog", "refresh", "--sha256", "HEX")}, or sha256 = "HEX" in [catalog]',
        )
    if digest != expected:
        raise NotSo(
            f"{source} is not what it should be: its SHA-256 is {digest}, {expected} was expected",
            why="it was replaced, damaged on the way, or its digest is of another day",
            next="nothing was taken; ask who publishes it",
        )


def _beside(source: str) -> str:
    """What SOURCE.sha256 says, as sha256sum writes it; empty without one."""
    try:
        match = _DIGEST.search(_read(f"{source}.sha256", 4096).decode("ascii", "replace"))
    except (MissingPart, NotSo):
        return ""
    return match[0].lower() if match else ""


def _read(source: str, most: int) -> bytes:
    if "://" not in source:
        try:
            with Path(source).expanduser().open("rb") as stream:
                text = stream.read(most + 1)
        except OSError as error:
            raise MissingPart(f"{source} cannot be read: {error.strerror}") from None
    else:
        text = _get(_address(source), most)
    if len(text) > most:
        raise BadInput(f"{source} has more than {most:,} bytes: that is no catalog")
    return text


def _address(source: str) -> str:
    parts = urlsplit(source)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.username or parts.password:
        raise BadInput("an address with a user name or a password in it is refused", why="it would end up in records")
    if not parts.hostname or not (parts.scheme == "https" or loopback):
        raise BadInput(f"{source} must be an https address, or a path")
    if hub.offline():
        raise MissingPart("a catalog is fetched from the network, and this is offline mode")
    return source


def _get(url: str, most: int) -> bytes:
    """Redirects are judged as those of a download. At most one byte more than `most` is read."""
    import httpx

    from llmstack.fetch.transfer import Remote, opened

    try:
        with httpx.Client(timeout=TIMEOUT_S) as client, opened(client, Remote(url, url), {}) as response:
            if response.status_code != 200:
                raise MissingPart(f"{response.url} answered {response.status_code}")
            text = b""
            for piece in response.iter_bytes():
                text += piece
                if len(text) > most:
                    break
            return text[: most + 1]
    except httpx.HTTPError as error:
        raise MissingPart(f"{url} cannot be reached", why=f"{type(error).__name__}: {error}") from None
