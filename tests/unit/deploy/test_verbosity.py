"""A plan with a device has the engine list where it loads the weights; no other does, and no build logs prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.deploy.load_log import lists_buffers
from llmstack.deploy.services import server_service
from llmstack.engine import embedded
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.engine.flags import parse_help
from llmstack.paths import Home

ENGINE = Engine(
    "cuda", EngineKind.BINARY, EngineOrigin.BUILT, ("/opt/llama-server",), build=11434,
    flags=parse_help(embedded.help_text()),
)  # fmt: skip
ON_CARD = ("-m", "/m/q.gguf", "-ngl", "25")


def argv_of(engine: Engine, plan_argv: tuple[str, ...]) -> tuple[str, ...]:
    home = Home(Path("/c"), Path("/s"), Path("/d"), Path("/x"))
    return server_service(home, engine, plan_argv, "127.0.0.1", 8080).argv


@pytest.mark.parametrize(
    ("engine", "plan_argv", "lists"),
    [
        (ENGINE, ON_CARD, True),
        (ENGINE, ("-m", "/m/q.gguf", "-ngl", "all"), True),
        (ENGINE, ("-m", "/m/q.gguf", "-ngl", "0"), False),
        (ENGINE, ("-m", "/m/q.gguf"), False),
        (ENGINE, (*ON_CARD, "-dev", "none"), False),
        (replace(ENGINE, build=8146), ON_CARD, False),  # level 4 was debug then, and the lines came without it
        (replace(ENGINE, build=None), ON_CARD, True),  # it has --load-mode, so it is young
    ],
)
def test_only_a_plan_with_a_device_asks_for_the_lines_of_loading(
    engine: Engine, plan_argv: tuple[str, ...], lists: bool
) -> None:
    assert lists_buffers(argv_of(engine, plan_argv)) is lists


def test_a_pinned_verbosity_stays() -> None:
    argv = argv_of(ENGINE, (*ON_CARD, "-lv", "2"))
    assert argv.count("-lv") == 1 and argv[argv.index("-lv") + 1] == "2"


def test_saved_states_stay_valid_whatever_is_logged() -> None:
    loud, quiet = argv_of(ENGINE, ON_CARD), argv_of(replace(ENGINE, build=8146), ON_CARD)
    assert loud[loud.index("--slot-save-path") + 1] == quiet[quiet.index("--slot-save-path") + 1]
