"""A real instruct model on a real stack: a real tokenizer and template, and words that mean something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmstack.demo.template import CHAT_TEMPLATE
from support.real_models import SMOLLM2
from support.stack import Stack

pytestmark = pytest.mark.timeout(600)
TOOL = {
    "name": "capital_of",
    "description": "Tells the capital of a country.",
    "input_schema": {
        "type": "object",
        "properties": {"country": {"type": "string", "enum": ["France", "Peru"]}, "year": {"type": "integer"}},
        "required": ["country", "year"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Stack]:
    """Its own template shows no tools; it is ChatML, so the demo's template, which shows them, fits it."""
    stack = Stack.in_folder(tmp_path_factory.mktemp("home")).with_model(smollm2)
    template = tmp_path_factory.mktemp("template") / "chatml-with-tools.jinja"
    template.write_text(CHAT_TEMPLATE)
    try:
        assert "is shown no tools" in stack.up().err
        assert "is shown no tools" not in stack.up("--set", f"chat-template-file={template}").err
        yield stack
    finally:
        stack.end()


def message(stack: Stack, **more: Any) -> Any:
    body = {"model": "local", "max_tokens": 200, "temperature": 0, **more}
    headers = {"x-api-key": stack.token}
    answer = httpx.post(f"{stack.url}/v1/messages", json=body, headers=headers, timeout=300, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_it_answers_with_words_that_are_right(stack: Stack) -> None:
    said = message(stack, messages=user("What is the capital of France?"))
    assert "Paris" in said["content"][0]["text"]


def test_another_template_shows_it_the_tools(stack: Stack) -> None:
    """So small a model does not call them; what is shown is that they reach it."""
    asked = user("Which city is the capital of France in 2026?")
    plain, told = (message(stack, messages=asked, **more)["usage"] for more in ({}, {"tools": [TOOL]}))
    assert sum_of(told) > sum_of(plain) + 80


@pytest.mark.parametrize("others", [0, 12])
def test_a_forced_call_comes_whatever_the_model_would_rather_write(stack: Stack, others: int) -> None:
    """Asked freely it writes a program in Python; another dozen tools are no reason to read the prompt anew."""
    more = [{**TOOL, "name": f"other_{number}"} for number in range(others)]
    asked = {"messages": user("Which city is the capital of France in 2026?"), "tools": [*more, TOOL]}
    message(stack, **asked)
    said = message(stack, **asked, tool_choice={"type": "tool", "name": "capital_of"})
    [call] = said["content"]
    assert said["stop_reason"] == "tool_use" and call["name"] == "capital_of"
    assert call["input"]["country"] in ("France", "Peru") and isinstance(call["input"]["year"], int)
    assert said["usage"]["input_tokens"] < 8  # all before it came from the cache


def sum_of(usage: dict[str, int]) -> int:
    return usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]


def test_a_second_turn_reads_only_what_is_new(stack: Stack) -> None:
    first = message(stack, messages=user("Name a colour of the sky."))
    history = [*user("Name a colour of the sky."), {"role": "assistant", "content": first["content"]}]
    second = message(stack, messages=[*history, *user("And of grass?")])
    assert second["usage"]["cache_read_input_tokens"] >= first["usage"]["input_tokens"] // 2


def test_its_short_context_is_said_by_plan_and_status(stack: Stack) -> None:
    """8,192 tokens are too few for a coding agent's first request."""
    plan = stack.run("plan", str(stack.model), "--json").json
    assert plan["model"]["n_ctx_train"] == 8192
    assert any("Claude Code" in sentence for sentence in plan["warnings"])
    assert json.loads(stack.run("status", "--json").out)["state"] == "ready"


def test_verify_knows_its_bytes(stack: Stack, smollm2: Path) -> None:
    ran = stack.run("models", "verify", str(smollm2), "--json")
    assert ran.status == 0, ran.err
    assert SMOLLM2.sha256 in ran.out
