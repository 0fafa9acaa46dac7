"""Every command that README and docs name exists, with each option that stands beside it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from support.paths import DOCS, ROOT
from unit.cli.test_every_next import Named, check_that_it_exists

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md")))
_TYPED = re.compile(r"^\$ (?:[A-Z_]+=\S+ )*(?:\./stack|llmstack) (.+)$", re.MULTILINE)
_INLINE = re.compile(r"`(?:\./stack|llmstack) ([^`]+)`")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*")
_NOT_THE_PROGRAM = frozenset({"test"})  # the launcher's own: runs the tests


def named_in_pages() -> Iterator[Named]:
    for page in PAGES:
        text = page.read_text()
        for match in (*_TYPED.finditer(text), *_INLINE.finditer(text)):
            line = match[1].partition("  #")[0].partition(" # ")[0].replace("…", "").replace("|", " ")
            words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)
            if (
                words
                and words[0][0] != "-"
                and words[0] not in _NOT_THE_PROGRAM
                and not _PLACEHOLDER.fullmatch(words[0])
            ):
                words = words[: words.index("--")] if "--" in words else words
                yield Named(f"{page.name}:{text[: match.start()].count(chr(10)) + 1}", tuple(words))


NAMED = list(named_in_pages())


def test_there_are_many() -> None:
    assert len(NAMED) > 150


@pytest.mark.parametrize("named", NAMED, ids=lambda named: f"{named.where} {' '.join(map(str, named.words))}"[:80])
def test_the_command_of_a_page_exists(named: Named) -> None:
    check_that_it_exists(named)
