"""What GitHub says of a release, and its refusals in words (docs.github.com, REST API, releases)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llmstack.commands import command_line
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.gguf import printable
from llmstack.release.assets import REPOSITORY, TAG, Asset, Release, build_of

ADDRESS = "https://api.github.com"
VARIABLE = "LLMSTACK_RELEASES"  # a mirror that answers like the API
HOSTS = ("github.com", "githubusercontent.com")  # where GitHub sends a download
MOST_BYTES = 8 << 20
_MOST_ASSETS = 500
_NIGHTLY = "nightly-tag.txt"


def address() -> str:
    """The API's address. Raises BadInput for a mirror that is neither HTTPS nor this machine."""
    given = os.environ.get(VARIABLE, "").rstrip("/")
    if not given:
        return ADDRESS
    parts = urlsplit(given)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")):
        return given
    raise BadInput(f"{VARIABLE} must be an https address", next=f"unset {VARIABLE}   asks GitHub itself")


def release_of(name: str) -> Release:
    """The release of a b-tag; `stable`: of what GitHub calls the latest; `nightly`: the newest build.

    Raises MissingPart when the API cannot be asked, NotSo when there is no such release.
    """
    base = f"{address()}/repos/{REPOSITORY}/releases"
    if name == "stable":
        latest = _get(f"{base}/latest")
        tag = str(latest.get("tag_name", ""))
        return _release(latest) if TAG.fullmatch(tag) else release_of(_nightly_tag(latest, tag))
    if name == "nightly":
        newest = _get(f"{base}?per_page=10")
        releases = [_release(one) for one in newest if TAG.fullmatch(str(one.get("tag_name", "")))]
        with_files = [release for release in releases if release.assets]
        if not with_files:
            raise NotSo("none of the last ten releases has a build", next=f"{_install()} --tag stable")
        return max(with_files, key=lambda release: release.build)
    if not build_of(name) and not name.startswith("v"):
        raise BadInput(f"{printable(name)} is no release: a build is called b12345, a stable one v1.0.0")
    one = _get(f"{base}/tags/{name}", missing=f"llama.cpp has no release {printable(name)}")
    return _release(one) if build_of(name) else release_of(_nightly_tag(one, name))


def _nightly_tag(release: Mapping[str, Any], name: str) -> str:
    """A stable release has one file, the name of the build that it is."""
    for asset in _assets(release):
        if asset.name == _NIGHTLY:
            tag = _fetch(asset.url).decode("ascii", "replace").strip()
            if TAG.fullmatch(tag):
                return tag
            raise NotSo(f"the release {printable(name)} names no build: {printable(tag[:40])!r}", next=_by_tag())
    raise NotSo(f"the release {printable(name)} has neither a build nor the name of one ({_NIGHTLY})", next=_by_tag())


def _release(value: Mapping[str, Any]) -> Release:
    return Release(str(value.get("tag_name", "")), _assets(value))


def _assets(value: Mapping[str, Any]) -> tuple[Asset, ...]:
    assets = []
    for one in (value.get("assets") or ())[:_MOST_ASSETS]:
        name, url, digest = (str(one.get(key) or "") for key in ("name", "browser_download_url", "digest"))
        size = one.get("size")
        sha256 = digest.removeprefix("sha256:") if digest.startswith("sha256:") else ""
        if name and url:
            assets.append(Asset(name, url, size if isinstance(size, int) and size > 0 else 0, sha256.lower()))
    return tuple(assets)


def _get(url: str, missing: str = "") -> Any:
    import json

    data = _fetch(url, missing)
    try:
        return json.loads(data)
    except ValueError:
        host = urlsplit(url).hostname
        raise MissingPart(
            f"{host} answers with something else than the releases",
            why="a proxy or a login page on the way?",
            next=_offline(),
        ) from None


def _fetch(url: str, missing: str = "") -> bytes:
    import httpx

    headers = {"Accept": "application/vnd.github+json", "User-Agent": "llmstack"}
    token = os.environ.get("GITHUB_TOKEN", "").strip()
    if token and url.startswith(f"{address()}/"):
        headers["Authorization"] = f"Bearer {token}"
    host = urlsplit(url).hostname or url
    try:
        with httpx.stream("GET", url, headers=headers, timeout=30.0, follow_redirects=True) as response:
            data = b""
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MOST_BYTES:
                    raise NotSo(f"{host} answers with more than {MOST_BYTES >> 20} MiB", next=_offline())
            if response.status_code != 200:
                raise _refused(response.status_code, response.headers, host, missing)
            return data
    except httpx.ProxyError as error:
        raise MissingPart(
            "the proxy on the way refuses",
            why=f"{_proxy()}: {error}",
            next=f"unset HTTPS_PROXY, or mend it; {_offline()}",
        ) from None
    except httpx.TransportError as error:
        proxy = _proxy()
        what = f"{host} cannot be reached" + (f" through {proxy}" if proxy else ": no network?")
        raise MissingPart(what, why=f"{type(error).__name__}: {error}", next=_offline()) from None


def _refused(status: int, headers: Mapping[str, str], host: str, missing: str) -> Exception:
    limited = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    if status == 429 or (status == 403 and limited):
        return MissingPart(
            "GitHub lets this address ask no more for now",
            why=f"60 questions an hour without a token{_until(headers)}",
            next=f"set GITHUB_TOKEN (any token, no rights needed), or wait; {_offline()}",
        )
    if status == 407:
        return MissingPart("the proxy on the way wants a login", why=_proxy(), next=_offline())
    if status == 404 and missing:
        return NotSo(missing, next=f"{command_line('engine', 'list', '--check')}   says what is newest")
    if status in (401, 403):
        return MissingPart(f"{host} refuses (status {status})", why="a token that is not good, or a wall on the way?",
                           next=_offline())  # fmt: skip
    return MissingPart(f"{host} answers with status {status}", next=f"try again later; {_offline()}")


def _until(headers: Mapping[str, str]) -> str:
    reset = headers.get("x-ratelimit-reset", "")
    return f"; again from {time.strftime('%H:%M', time.localtime(int(reset)))}" if reset.isdigit() else ""


def _proxy() -> str:
    """The address of the proxy that is set, without a password."""
    given = next((value for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY") if (value := os.environ.get(name))), "")
    parts = urlsplit(given)
    return f"{parts.hostname}:{parts.port}" if parts.hostname else ""


def _install() -> str:
    return command_line("engine", "install")


def _by_tag() -> str:
    return f"{_install()} --tag b12345   takes a build by its name"


def _offline() -> str:
    return f"{command_line('engine', 'install', '--archive', 'FILE', '--sha256', 'HEX')}   installs a downloaded one"
