"""The last line of every unit we write: a hash of all lines before it.

It tells our own text from one edited by hand and from somebody else's, without a state file beside it.
"""

from __future__ import annotations

import enum
import hashlib

_PREFIX = "# llmstack sha256="


class UnitOrigin(enum.StrEnum):
    OURS = "ours"  # written by us, untouched since
    EDITED = "edited"  # written by us, changed by hand
    FOREIGN = "foreign"  # not ours


def mark(text: str) -> str:
    body = text.rstrip("\n") + "\n"
    return f"{body}{_PREFIX}{_digest(body)}\n"


def origin(text: str) -> UnitOrigin:
    """A unit whose mark was removed counts as foreign: it is not overwritten either way."""
    body, prefix, rest = text.rpartition(_PREFIX)
    if not prefix:
        return UnitOrigin.FOREIGN
    return UnitOrigin.OURS if rest == f"{_digest(body)}\n" else UnitOrigin.EDITED


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()
