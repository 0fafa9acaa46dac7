"""A template of one's own is taken by its content, from wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.deploy.model_goal import with_template
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.plan import Goal


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(*(tmp_path / name for name in ("config", "state", "data", "cache")))


def test_the_same_content_is_the_same_flag_and_another_one_another(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    paths = []
    for text in ("{{ messages }}", "{{ messages }}", "{{ tools }}"):
        file.write_text(text)
        goal = with_template(home, Goal(pins={"--chat-template-file": str(file), "ngl": "0"}))
        assert goal.pins["ngl"] == "0"
        paths.append(Path(goal.pins["--chat-template-file"]))
        assert paths[-1].read_text() == text and paths[-1].is_relative_to(home.data)
    assert paths[0] == paths[1] != paths[2]
    assert with_template(home, Goal(pins={"chat-template-file": str(paths[0])})).pins == {
        "chat-template-file": str(paths[0])
    }


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_what_can_be_no_template_is_refused(home: Home, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "t.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match="chat-template-file"):
        with_template(home, Goal(pins={"chat-template-file": str(file)}))
