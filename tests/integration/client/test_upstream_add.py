"""An upstream is asked when it is added."""

from __future__ import annotations

from pathlib import Path

from llmstack.client.upstream_add import UpstreamRequest, add
from llmstack.paths import Home


def never(question: str, *, default: str | None = None, secret: bool = False) -> str:
    raise AssertionError(f"it asked: {question}")


def test_one_on_this_machine_needs_no_key(tmp_path: Path) -> None:
    home = Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "k").make()
    outcome = add(home, "mine", UpstreamRequest(base_url="http://127.0.0.1:9/v1", model="m"), never)
    assert outcome.key_file is None
