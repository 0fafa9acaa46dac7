"""Which lines leave the shared prefix, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmstack.protocol.request import Dialect, Translator, decode
from llmstack.protocol.volatile_lines import split

TOOL = {"name": "run", "description": "runs a command", "input_schema": {"type": "object"}}
RULES = "You change code.\nKeep it small.\n\n# Environment\n - Primary working directory: {cwd}\n - Answer briefly."
NOTES = "# Skills\n- tidy: put things in order\nToday's date is {date}."


def request(cwd: str, date: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "m",
        "system": [{"type": "text", "text": RULES.format(cwd=cwd)}],
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": f"fix it in {cwd}"},
            {"role": "system", "content": NOTES.format(date=date)},
            *more,
        ],
    }


def translated(body: dict[str, Any], *, stable: bool = True) -> list[dict[str, Any]]:
    asked = decode(msgspec.json.encode(body))
    messages: list[dict[str, Any]] = Translator().to_chat(asked, Dialect(stable_prefix=stable)).body["messages"]
    return messages


@pytest.mark.parametrize(
    "line",
    [
        " - Primary working directory: /home/me/work",
        "Working directory: C:\\Users\\me",
        "You keep notes in `/home/me/.notes/`.",
        "Today's date is 2026-11-20.",
        "Is directory a git repo: Yes",
        "Platform: linux",
    ],
)
def test_a_line_about_this_place_or_day_is_moved(line: str) -> None:
    assert split(f"first\n{line}\nlast") == ("first\nlast", line)


@pytest.mark.parametrize(
    "line",
    [
        "Read https://example.org/docs/en/model before you start.",
        "Use /loop 5m /check to repeat.",
        "Settings are in ~/.config/x.json.",
        "The working directory may change.",
        "Either/or, and 24/7.",
    ],
)
def test_a_line_that_is_the_same_everywhere_stays(line: str) -> None:
    assert split(f"first\n{line}") == (f"first\n{line}", "")


def test_a_git_status_is_moved_to_its_end() -> None:
    stable, moved = split("Rules.\n\ngitStatus: as it was\n\nRecent commits:\nabc one\ndef two")
    assert (stable, moved) == ("Rules.\n", "gitStatus: as it was\n\nRecent commits:\nabc one\ndef two")


def test_every_line_is_kept_once() -> None:
    text = RULES.format(cwd="/a/b") + "\n" + NOTES.format(date="2026-11-20")
    stable, moved = split(text)
    assert sorted([*stable.split("\n"), *moved.split("\n")]) == sorted(text.split("\n"))


def test_two_directories_and_days_have_the_same_system_text() -> None:
    one = translated(request("/home/me/one", "2026-11-20"))
    two = translated(request("/srv/two/x", "2026-11-21"))
    assert one[0] == two[0]
    assert one[0]["role"] == "system" and "Skills" in one[0]["content"] and "Answer briefly." in one[0]["content"]
    assert one[1]["role"] == "user" and one[1] != two[1]
    for part in ("/home/me/one", "2026-11-20", "fix it in"):
        assert part in one[1]["content"]


def test_a_later_turn_continues_the_earlier_prompt() -> None:
    first = translated(request("/home/me/one", "2026-11-20"))
    later = translated(
        request(
            "/home/me/one",
            "2026-11-20",
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "thanks"},
            {"role": "system", "content": "a later note"},
        )
    )
    assert later[: len(first)] == first
    assert [m["role"] for m in later] == ["system", "user", "assistant", "user"]
    assert "a later note" in later[-1]["content"]


def test_off_or_without_tools_nothing_is_moved() -> None:
    body = request("/home/me/one", "2026-11-20")
    assert "/home/me/one" in translated(body, stable=False)[0]["content"]
    del body["tools"]
    assert "/home/me/one" in translated(body)[0]["content"]
