"""An argv made to fit the build that gets it."""

from __future__ import annotations

import pytest

from llmstack.engine.flags import fit, parse_help
from llmstack.errors import MissingPart
from support.help_texts import FORK, MODERN, OLDER

WISHES = (
    "-m", "m.gguf", "-c", "65536", "-ngl", "99", "-ncmoe", "3", "-fa", "on", "-ctk", "q4_0", "--load-mode", "none",
    "-fit", "off", "-rea", "off", "--sse-ping-interval", "5", "--no-ui", "--cache-ram", "0", "--metrics",
)  # fmt: skip


def test_a_newer_build_gets_the_argv_as_it_is() -> None:
    fitted = fit(WISHES, parse_help(MODERN))
    assert fitted.argv == WISHES
    assert fitted.changes == ()


def test_an_older_build_gets_the_same_wishes_in_its_own_flags() -> None:
    fitted = fit(WISHES, parse_help(OLDER))
    assert fitted.argv == (
        "-m", "m.gguf", "-c", "65536", "-ngl", "99",
        "--override-tensor", r"blk\.(0|1|2)\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU",
        "-fa", "-ctk", "q4_0", "--no-mmap",
        "--chat-template-kwargs", '{"enable_thinking": false}', "--no-webui", "--metrics",
    )  # fmt: skip
    assert len(fitted.changes) == 8
    assert "--sse-ping-interval 5 left out: this build does not have it" in fitted.changes


def test_old_spellings_are_lifted_for_a_newer_build() -> None:
    assert fit(("--no-mmap", "-fa"), parse_help(MODERN)).argv == ("--load-mode", "none", "-fa", "on")
    assert fit(("--mlock",), parse_help(MODERN)).argv == ("--load-mode", "mmap+mlock")


@pytest.mark.parametrize(
    "argv", [("--spec-type", "draft-mtp"), ("--cache-ram", "2048"), ("--load-mode", "dio"), ("-rea", "sometimes")]
)
def test_a_flag_without_an_equivalent_is_refused_by_name_before_any_start(argv: tuple[str, ...]) -> None:
    with pytest.raises(MissingPart, match=f"build 7000 has no flag {argv[0]}"):
        fit(argv, parse_help(OLDER), engine="build 7000")


def test_switches_pairs_and_hints_are_told_apart() -> None:
    flags = parse_help(MODERN)
    kv = flags.find("-nkvo")
    assert kv is not None and not kv.takes_value
    override = flags.find("--override-tensor")
    assert override is not None and override.takes_value
    assert flags.find("--no-webui") is flags.find("--ui")
    assert "--flash-attn" in flags and "--mlock" not in flags


def test_a_negative_number_is_a_value_and_a_flag_is_not() -> None:
    assert fit(("-c", "-1", "--metrics"), parse_help(MODERN)).argv == ("-c", "-1", "--metrics")


def test_text_that_is_no_help_has_no_options() -> None:
    assert parse_help("Segmentation fault").options == ()


PLAN = (
    "-m", "m.gguf", "-a", "name", "-c", "65536", "-np", "1", "-ngl", "99", "-dev", "CUDA0", "-ncmoe", "3",
    "-ctk", "q8_0", "-ctv", "q8_0", "-b", "2048", "-ub", "512", "-lm", "none", "-cram", "0", "-ctxcp", "4",
    "--cache-idle-slots", "-t", "8", "-n", "8192", "-rea", "off", "-fit", "off", "--jinja", "--host", "127.0.0.1",
    "--port", "1", "--api-key-file", "k", "--slots", "--metrics", "--slot-save-path", "s", "-to", "600", "--no-ui",
    "--cors-origins", "http://127.0.0.1:1", "--sse-ping-interval", "5",
)  # fmt: skip


def test_a_fork_s_help_is_read_in_its_own_layout() -> None:
    flags = parse_help(FORK)
    for name, takes_value in (("-rea", True), ("--no-slots", False), ("--ctx-checkpoints", True), ("-mla", False)):
        option = flags.find(name)
        assert option is not None and option.takes_value is takes_value, name
    device = flags.find("--device")
    assert device is not None and device.names == ("-dev", "--device") and "-" not in flags


def test_a_plan_fits_a_fork_by_what_its_help_lists() -> None:
    fitted = fit(PLAN, parse_help(FORK), engine="a fork")
    assert fitted.argv == (
        "-m", "m.gguf", "-c", "65536", "-np", "1", "-ngl", "99", "-dev", "CUDA0", "--n-cpu-moe", "3",
        "-ctk", "q8_0", "-ctv", "q8_0", "-b", "2048", "-ub", "512", "--no-mmap", "-cram", "0", "--ctx-checkpoints", "4",
        "-t", "8", "-n", "8192", "-rea", "off", "--jinja", "--host", "127.0.0.1",
        "--port", "1", "--api-key-file", "k", "--metrics", "--slot-save-path", "s", "--timeout", "600",
    )  # fmt: skip
    left_out = [change for change in fitted.changes if "left out" in change]
    assert [change.split()[0] for change in left_out] == [
        "-a", "--cache-idle-slots", "-fit", "--slots", "--no-ui", "--cors-origins", "--sse-ping-interval",
    ]  # fmt: skip


@pytest.mark.parametrize("argv", [("--swa-full",), ("-kvu",), ("--spec-draft-n-max", "2"), ("-lm", "dio")])
def test_what_a_fork_does_not_have_is_refused_by_name(argv: tuple[str, ...]) -> None:
    with pytest.raises(MissingPart, match=f"a fork has no flag {argv[0]}"):
        fit(argv, parse_help(FORK), engine="a fork")
