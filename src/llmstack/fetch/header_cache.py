"""Headers of files on the hub that were read before, by what each file is: no network, and no download."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llmstack.errors import StackError
from llmstack.fetch.model import Source
from llmstack.fetch.models_dir import COMMIT
from llmstack.gguf import GgufHeader, merge
from llmstack.kept_headers import header_from_before


def identity_of(source: Source) -> str:
    """What a file on the hub is: its digest, else its name at a commit; empty with neither, for a branch moves on."""
    if source.sha256:
        return source.sha256
    is_pinned = source.repo and COMMIT.fullmatch(source.revision)
    return f"{source.repo}@{source.revision}/{source.file}" if is_pinned else ""


def header_read_before(cache: Path, sources: Sequence[Source]) -> GgufHeader | None:
    """The header of all shards together, if each was read on the hub before."""
    headers = []
    for source in sources:
        identity = identity_of(source)
        header = header_from_before(cache, identity) if identity else None
        if header is None:
            return None
        headers.append(header)
    with suppress(StackError):  # shards that do not go together are no model
        return merge(headers) if headers else None
    return None
