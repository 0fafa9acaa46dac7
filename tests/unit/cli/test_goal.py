"""The options that say what a plan should achieve, as a Goal."""

from __future__ import annotations

from typing import Any

import pytest

from llmstack.cli.goal import make_goal
from llmstack.errors import BadInput

NONE: dict[str, Any] = {
    "ctx": None,
    "kv_type": None,
    "parallel": None,
    "pins": (),
    "vision": None,
    "mmproj": None,
    "keep_free": None,
}


def test_images_are_left_to_the_plan_unless_an_option_says_more() -> None:
    assert make_goal(**NONE).vision is None
    assert make_goal(**NONE | {"vision": True}).vision is True
    assert make_goal(**NONE | {"vision": False}).vision is False


def test_a_file_that_is_named_is_wanted() -> None:
    goal = make_goal(**NONE | {"mmproj": "/m/mmproj.gguf"})
    assert goal.vision is True and goal.mmproj_path == "/m/mmproj.gguf"


def test_a_file_cannot_be_named_and_left_out() -> None:
    with pytest.raises(BadInput, match="--mmproj names an image encoder"):
        make_goal(**NONE | {"mmproj": "/m/mmproj.gguf", "vision": False})
