"""With a real engine: what is planned, recorded, exported and told is what the server has and shows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from llmstack.demo.template import CHAT_TEMPLATE
from llmstack.gguf.writer import U32
from support.models import write_model
from support.stack import Stack

TRAINED = 4096
PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "short.gguf"
    return write_model("dense", path, {"qwen3.context_length": U32(TRAINED)})


def served(stack: Stack) -> int:
    """Tokens of a slot, as the engine says."""
    answer = httpx.get(f"{stack.server_url}/props", headers={"Authorization": f"Bearer {stack.server_key}"}, timeout=30)
    return int(answer.json()["default_generation_settings"]["n_ctx"])


def exported(stack: Stack) -> int:
    variables = dict(line.split("=", 1) for line in stack.run("env").out.splitlines() if "=" in line)
    return int(variables["export CLAUDE_CODE_MAX_CONTEXT_TOKENS"])


@pytest.mark.parametrize(
    "wish", [("--ctx", "16384"), ("--ctx", "16384", "--parallel", "2"), ("--set", "c=16384"),
             ("--set", "c=16384", "--set", "np=2", "--set", "kvu=on")],
)  # fmt: skip
def test_a_context_above_the_training_length_is_what_the_server_gives_everywhere(
    stack_home: Stack, short: Path, wish: tuple[str, ...]
) -> None:
    stack = stack_home.with_model(short)
    planned = stack.run("plan", str(short), *wish, "--json").json
    ran = stack.up("--json", *wish)
    assert "asked for 16384 tokens; the model was trained on 4096" in ran.err
    assert ran.json["warnings"] == planned["warnings"] and ran.json["n_ctx_slot"] == planned["n_ctx_slot"] == TRAINED
    assert served(stack) == exported(stack) == stack.run("status", "--json").json["n_ctx_slot"] == TRAINED
    assert "context 4,096" in stack.run("status").out
    assert "trained on 4096" in stack.run("doctor", "--json").out
    pooled = "kvu=on" in wish  # a pool for all slots may be larger than one of them may use
    assert pooled or "capping" not in stack.run("logs", "--raw", "server").out


@pytest.mark.parametrize(("ctx", "scale"), [(16384, "4"), (6144, "1.5")])
def test_yarn_that_was_asked_for_really_makes_the_server_serve_more(
    stack_home: Stack, short: Path, ctx: int, scale: str
) -> None:
    stack = stack_home.with_model(short)
    ran = stack.up("--json", "--ctx", str(ctx), "--set", "rope-scaling=yarn")
    assert [sentence for sentence in ran.json["warnings"] if "trained on" in sentence] == []
    assert served(stack) == exported(stack) == ctx
    argv = json.loads((stack.root / "state" / "stack.json").read_text())["server"]["argv"]
    assert argv[argv.index("--rope-scale") + 1] == scale


@pytest.mark.parametrize("template", [PLAIN, None])
def test_a_model_that_is_shown_no_tools_is_told_everywhere_and_claude_refuses_it(
    stack_home: Stack, tmp_path: Path, template: str | None
) -> None:
    model = write_model("dense", tmp_path / "deaf.gguf", {"tokenizer.chat_template": template})
    stack = stack_home.with_model(model)
    assert any("tool" in note for note in stack.run("plan", str(model), "--json").json["notes"])
    ran = stack.up("--json")
    assert "warning: deaf is shown no tools" in ran.err and "deaf is shown no tools" in ran.json["warnings"][0]
    assert json.loads((stack.root / "state" / "stack.json").read_text())["capabilities"]["tools"] is False
    status = stack.run("status", "--json").json
    assert status["state"] == "ready" and status["capabilities"]["tools"] is False and status["warnings"]
    assert "is shown no tools" in stack.run("doctor", "--json").out
    refused = stack.run("claude", "--no-start", "--", "--version")
    assert refused.status == 1
    assert "is shown no tools" in refused.err and "models list" in refused.err and "--without-tools" in refused.err

    own = tmp_path / "tools.jinja"
    own.write_text(CHAT_TEMPLATE)
    mended = stack.up("--json", "--set", f"chat-template-file={own}")
    assert mended.json["warnings"] == []
    assert stack.run("status", "--json").json["capabilities"]["tools"] is True

    own.write_text(PLAIN)
    changed = stack.up("--json", "--set", f"chat-template-file={own}")
    assert "is shown no tools" in changed.json["warnings"][0], "a changed template restarts the server"


def test_the_demo_model_is_shown_tools(demo_stack: Stack) -> None:
    assert demo_stack.run("status", "--json").json["capabilities"]["tools"] is True


def test_a_projector_is_named_before_anything_starts(stack_home: Stack, tmp_path: Path) -> None:
    file = write_model("dense", tmp_path / "mmproj-F16.gguf", {"general.type": "mmproj"})
    for command in (("plan", str(file)), ("up", str(file), *stack_home.ports)):
        ran = stack_home.run(*command)
        assert ran.status == 2 and "this is a projector (mmproj)" in ran.err and "next:" in ran.err
    assert not (stack_home.root / "state" / "stack.json").exists()
