"""A real model with sliding windows: planned to the MiB, and a conversation longer than its window is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.stack import Stack

pytestmark = pytest.mark.timeout(600)
WINDOW = 512  # gemma3.attention.sliding_window


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, gemma3: Path, built_engine: Path) -> Iterator[Stack]:
    """The base model: it has no template, so what it writes is asked of the server itself."""
    stack = Stack.in_folder(tmp_path_factory.mktemp("home")).with_model(gemma3)
    try:
        assert stack.run("engine", "use", str(built_engine / "llama-server")).status == 0
        stack.up("--ctx", "8192", timeout_s=400)
        yield stack
    finally:
        stack.end()


def complete(stack: Stack, prompt: str) -> Any:
    body = {"prompt": prompt, "n_predict": 6, "temperature": 0}
    headers = {"Authorization": f"Bearer {stack.server_key}"}
    answer = httpx.post(f"{stack.server_url}/completion", json=body, headers=headers, timeout=300, trust_env=False)
    return answer.raise_for_status().json()


@pytest.mark.parametrize("pin", ["swa-full=off", ""])
def test_every_part_of_its_memory_is_what_the_engine_reports(stack: Stack, pin: str) -> None:
    pins = ("--set", pin) if pin else ()
    plan = stack.run("plan", str(stack.model), "--ctx", "8192", "--verify", "--json", *pins).json
    assert [row["part"] for row in plan["verified"]] == ["weights", "context", "compute"]
    assert [row for row in plan["verified"] if not row["ok"]] == []


def test_it_counts_on_as_a_person_would(stack: Stack) -> None:
    assert "Thursday" in complete(stack, "Sunday, Monday, Tuesday, Wednesday,")["content"]


def test_what_lies_before_its_window_is_taken_from_the_cache_too(stack: Stack) -> None:
    """Four windows: layers that look back 512 tokens would have to read all of it again without the whole cache."""
    text = " ".join(f"Line {number} of the report says that all is well." for number in range(1, 181))
    first = complete(stack, text)
    assert first["timings"]["prompt_n"] + first["timings"].get("cache_n", 0) > 4 * WINDOW - 64
    second = complete(stack, text + " What does line 3 say?")
    assert second["timings"]["prompt_n"] < 64
