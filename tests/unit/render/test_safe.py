"""What a file or a server put into a name is text on the terminal, and nothing more."""

from __future__ import annotations

import click
import pytest

from llmstack.errors import BadInput
from llmstack.render.output import safe, show, show_error, warn

HOSTILE = "a\x1b]52;c;eA==\x07b\x1b[2Jc\rd\x9b1me\u202ef"


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(HOSTILE)
    warn(HOSTILE)
    show_error(BadInput(HOSTILE, why=HOSTILE, next=HOSTILE), as_json=False)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "\\x1b]52;c;eA==\\x07b" in text
        assert not set(text) & {"\x1b", "\x07", "\r", "\x9b", "\u202e"}


def test_our_own_colours_lines_and_tabs_stay() -> None:
    text = click.style("red", fg="red") + "\n\tü 日本 …"
    assert safe(text) == text
