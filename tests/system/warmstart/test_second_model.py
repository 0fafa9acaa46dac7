"""A small model guesses ahead for a large one: its guesses are taken, and the words stay the same over a restart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anthropic
from anthropic.types import TextBlock

from llmstack.demo import SENTENCE, build_model
from support.stack import Stack

TEXT = Path(__file__).read_text() * 8


def answer(home: Stack) -> str:
    client = anthropic.Anthropic(base_url=home.url, api_key=home.token, max_retries=0)
    said = client.messages.create(model="local", max_tokens=64, messages=[{"role": "user", "content": "hello"}])
    return "".join(block.text for block in said.content if isinstance(block, TextBlock))


def test_its_guesses_are_taken_and_the_words_are_those_of_the_large_one_also_after_a_restart(
    stack_home: Stack, tmp_path: Path
) -> None:
    large, small = tmp_path / "Large-F16.gguf", tmp_path / "Small-F16.gguf"
    for path in (large, small):  # the demo's chain of words: each guess of the second one holds
        path.write_bytes(b"".join(build_model(TEXT)))
    pins = ("--set", f"md={small}", "--set", "spec-draft-n-max=3", "--set", "t=1")
    ran = stack_home.run("up", str(large), "--ctx", "4096", *pins, *stack_home.ports)
    assert ran.status == 0, ran.err
    argv = json.loads((stack_home.root / "state" / "stack.json").read_text())["plan"]["argv"]
    assert argv[argv.index("-md") + 1] == str(small)
    assert answer(stack_home).strip() == SENTENCE
    assert stack_home.run("restart").status == 0
    assert answer(stack_home).strip() == SENTENCE
    log = (stack_home.root / "state" / "logs" / "server.log").read_text(errors="replace")
    shares = [float(share) for share in re.findall(r"draft acceptance = ([\d.]+)", log)]
    assert shares and max(shares) > 0.9


def test_how_many_guesses_held_is_counted_by_the_server_and_known_to_the_next_plan(
    stack_home: Stack, tmp_path: Path
) -> None:
    large, small = tmp_path / "Large-F16.gguf", tmp_path / "Small-F16.gguf"
    for path in (large, small):
        path.write_bytes(b"".join(build_model(TEXT)))
    pins = ("--set", f"md={small}", "--set", "spec-draft-n-max=3", "--set", "t=1")
    assert stack_home.run("up", str(large), "--ctx", "4096", *pins, *stack_home.ports).status == 0
    for _ in range(40):
        answer(stack_home)
    stack_home.do("down")
    [seen] = json.loads((stack_home.root / "state" / "acceptance.json").read_text())
    assert seen["drafted"] >= 500 and seen["accepted"] > 0.9 * seen["drafted"] and seen["by_model"]
    planned = stack_home.run("plan", str(large), "--ctx", "4096", *pins, "--json").json
    assert any("of the first guesses held with this model so far" in d["cost"] for d in planned["decisions"])
