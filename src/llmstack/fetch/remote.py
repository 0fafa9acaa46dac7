"""Reads the header of a model that is still on its server, through HTTP ranges: a plan before any download."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.commands import command_line
from llmstack.errors import MissingPart, NotSo
from llmstack.fetch import hub, trust
from llmstack.fetch.find_local import not_here
from llmstack.fetch.header_cache import identity_of
from llmstack.fetch.model import ResolvedModel, Source
from llmstack.fetch.pull import remote_of, with_listing
from llmstack.fetch.transfer import Remote
from llmstack.gguf import GgufError, GgufHeader, merge, read_header
from llmstack.gguf.kinds import kind_of_header, other_file
from llmstack.kept_headers import kept_header

if TYPE_CHECKING:
    import httpx


def remote_header(
    model: ResolvedModel, *, offline: bool = False, cache: Path | None = None
) -> tuple[ResolvedModel, GgufHeader]:
    """The model with its files named, and its header, all shards merged. Some megabytes are read, not the file; with a
    cache folder once for each file.

    Raises MissingPart when offline or the server cannot be reached, GgufError for a file that is no model.
    """
    import httpx

    if offline or hub.offline():
        raise not_here(model)
    model = with_listing(model)
    headers = []
    with httpx.Client(timeout=httpx.Timeout(30.0, connect=15.0), headers={"Accept-Encoding": "identity"}) as client:
        for source in model.sources:
            identity = identity_of(source)
            read = partial(_read, client, source)
            headers.append(kept_header(cache, identity, read) if cache and identity else read())
    header = merge(headers)
    key = kind_of_header(header)
    if key:
        other = other_file(key)
        raise GgufError(other.what, why=model.name, next=other.next)
    return model, header


def header_of(source: Source) -> GgufHeader:
    """The header of one file. Raises as `remote_header` does."""
    import httpx

    with httpx.Client(timeout=httpx.Timeout(30.0, connect=15.0), headers={"Accept-Encoding": "identity"}) as client:
        return _read(client, source)


def _read(client: httpx.Client, source: Source) -> GgufHeader:
    remote = remote_of(source, ())
    ranges = Ranges(client, remote)
    size = remote.size or ranges.size()
    return read_header(ranges, size)


class Ranges:
    """A RangedSource over HTTP; redirects are judged as those of a download are, and followed once."""

    def __init__(self, client: httpx.Client, remote: Remote) -> None:
        self._client, self._remote, self._url = client, remote, remote.url

    def read_at(self, offset: int, length: int) -> bytes:
        response = self._get(f"bytes={offset}-{offset + length - 1}")
        if response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
            return response.content[:length]
        raise MissingPart(
            f"{self._remote.name} cannot be read in parts from its server (it answered {response.status_code})",
            next=f"pull it first: {command_line('models', 'pull', self._remote.url)}",
        )

    def size(self) -> int:
        """The file's size in bytes, where only a range tells it."""
        total = self._get("bytes=0-0").headers.get("content-range", "").rpartition("/")[2]
        if not total.isdigit():
            raise MissingPart(
                f"the server does not say how large {self._remote.name} is",
                next=f"pull it first: {command_line('models', 'pull', self._remote.url)}",
            )
        return int(total)

    def _get(self, byte_range: str) -> httpx.Response:
        import httpx

        for _ in range(trust.MAX_REDIRECTS + 1):
            endpoint = self._remote.endpoint
            own = self._remote.headers if not endpoint or trust.may_send_token(endpoint, self._url) else {}
            try:
                with self._client.stream("GET", self._url, headers={**own, "Range": byte_range}) as response:
                    if not response.has_redirect_location:
                        if response.status_code == 206:
                            response.read()
                        return response
                    target = str(response.url.join(response.headers["location"]))
            except httpx.TransportError as error:
                raise MissingPart(
                    f"{self._remote.name} cannot be read from its server", why=f"{type(error).__name__}: {error}",
                    next="check the network, or a mirror: HF_ENDPOINT",
                ) from None  # fmt: skip
            trust.check(self._url, target, hub=self._remote.hub, extra=self._remote.allow_hosts)
            self._url = target
        raise NotSo(f"{self._remote.name}: more than {trust.MAX_REDIRECTS} redirects", next="try another source")
