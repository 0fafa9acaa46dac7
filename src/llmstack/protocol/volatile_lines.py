"""The lines of a system text that differ between directories, machines and days, apart from those that don't.

Claude Code names its memory folder 3.5 KB into the system text and the working directory behind the first user message,
each followed by many KB that are always the same; a template then renders the tools behind the system text. Whatever
stands behind the first differing byte is computed again for each directory. So these lines go to the front of the
first user message, in their order and to the letter, and what is left is the same everywhere.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LABELS = (
    r"Primary working directory|Working directory|Additional working directories|Is (?:a|directory a) git repo\w*|"
    r"Platform|Shell|OS Version|Today's date|Today is|Current date|Current branch|Main branch|Git user|Status|"
    r"You are powered by the model"
)
# A path of at least two parts, on its own or quoted; what follows "://" is none.
_PATH = r"(?:^|[\s`'\"(=])(?:/(?:[^\s/`'\":]+/)+|[A-Za-z]:\\[^\s\\]+\\)"
_DATE = r"\b20\d\d-\d\d-\d\d\b"
_VOLATILE = re.compile(rf"^\s*(?:- )?(?:{_LABELS})\b|{_PATH}|{_DATE}")
_GIT_STATUS = "gitStatus:"  # from here to the end of its text


_LONGEST = 512 * 1024  # characters: a longer text is no client's system text, and stays as it is


def split(text: str) -> tuple[str, str]:
    """(what is the same everywhere, what is not), each in its order; together they hold every line of `text`."""
    return _split(text) if len(text) <= _LONGEST else (text, "")


@lru_cache(maxsize=32)  # the same system text comes with every request: half a millisecond each
def _split(text: str) -> tuple[str, str]:
    stable: list[str] = []
    moved: list[str] = []
    rest_is_status = False
    for line in text.split("\n"):
        rest_is_status = rest_is_status or line.startswith(_GIT_STATUS)
        (moved if rest_is_status or _VOLATILE.search(line) else stable).append(line)
    return "\n".join(stable), "\n".join(moved)
