"""The table of llama-server's flags: complete, without doubles, true to the pinned build, and the only one."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from llmstack.engine.embedded import SETTERS, help_text
from llmstack.engine.flags import fit, parse_help
from llmstack.errors import MissingPart
from llmstack.llama_server.flags import FLAGS, REMOVED, Flag, flag_named, flag_of, pinnable_flag
from llmstack.plan import Goal, ModelFacts
from llmstack.plan.argv import flags
from llmstack.plan.assignment import Assignment
from llmstack.warmstart.fingerprint import folder_name
from support.planner.draws import facts

ROOT = Path(__file__).resolve().parents[3]
PINNED_BUILD = parse_help(Path(__file__).with_name("options_of_11434.txt").read_text())
MOST_LITERALS = 8
# May spell more flags: the table, what a plan derives, what older builds had, what the embedded engine does with each.
LISTS = {
    "llama_server/flags.py": "the table",
    "plan/argv.py": "derived values",
    "engine/flags.py": "older builds' ways",
    "engine/embedded.py": "what each one sets",
}


def command_lines() -> Iterator[tuple[str, ...]]:
    """Plans' command lines that between them have every flag that a plan can write."""
    dense, small = facts("llama-8b"), facts("qwen3-8b")
    whole = Assignment(
        ctx=8192, ngl=9, ncmoe=1, ncffn=1, nkvo=True, parallel=2, kv_unified=True, swa_full=True, split=(3.0, 1.0),
        threads=4, no_repack=True, has_gpu=True,
    )  # fmt: skip
    carried = {flag.field: 5 for flag in FLAGS if flag.only_pinned}
    whole = replace(whole, **carried)  # type: ignore[arg-type]
    goal = Goal(alias="a", mmproj_path="/v.gguf", draft=small, chat_template_file="/t.jinja")
    deaf: ModelFacts = replace(dense, template_ignores_switch=True)
    for a in (whole, replace(whole, draft_max=2), replace(whole, draft_max=2, drafter=True), replace(whole, ngl=0)):
        yield flags(deaf, a, goal)
    yield flags(deaf, replace(whole, ctx=1 << 20, rope_scaling="yarn"), goal)


WRITTEN = {word for argv in command_lines() for word in argv if word.startswith("-")}


def test_names_and_fields_are_given_once() -> None:
    names = Counter(name for flag in FLAGS for name in (*flag.names, *flag.negation))
    of_plan = Counter(name for flag in FLAGS for name in (flag.field, flag.goal_field) if name)
    assert not [name for name, count in (names + of_plan).items() if count > 1]


def test_every_flag_has_a_sentence() -> None:
    assert not [flag.name for flag in FLAGS if not (flag.about[0].isupper() and flag.about.endswith("."))]


def test_fields_are_those_of_an_assignment_and_of_a_goal() -> None:
    of_assignment, of_goal = ({field.name for field in fields(kind)} for kind in (Assignment, Goal))
    assert {flag.field for flag in FLAGS if flag.field} <= of_assignment
    assert {flag.goal_field for flag in FLAGS if flag.goal_field} <= of_goal
    # what no flag says: whether there is a GPU at all
    assert of_assignment - {flag.field for flag in FLAGS} == {"has_gpu"}


def test_what_can_be_pinned_or_tuned_belongs_to_a_plan() -> None:
    for flag in FLAGS:
        assert not flag.pinnable or (flag.field or flag.goal_field), flag.name
        assert not flag.pinnable or flag.kind.expects, flag.name
        assert not flag.tunable or flag.field, flag.name
        assert not flag.only_pinned or (flag.pinnable and flag.field), flag.name


def test_every_flag_that_a_plan_writes_is_in_the_table_under_the_name_it_writes() -> None:
    assert {flag.name for flag in FLAGS if flag.name in WRITTEN} == WRITTEN
    assert {flag.name for flag in FLAGS if flag.field or flag.goal_field} <= WRITTEN


def test_the_embedded_engine_takes_every_flag_that_a_plan_writes() -> None:
    assert not WRITTEN - SETTERS.keys()
    assert not [name for name in SETTERS if flag_named(name) is None]


YOUNGER = ("--moe-cache-mib",)  # llama.cpp pull 29887, b11480; the embedded build has it


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.name not in YOUNGER], ids=lambda flag: flag.name)
def test_the_pinned_build_has_the_flag_under_the_same_names(flag: Flag) -> None:
    option = PINNED_BUILD.find(flag.name)
    assert option is not None
    assert set(option.names) == {*flag.names, *flag.negation}
    assert option.takes_value == flag.takes_value


def test_what_was_removed_is_not_in_the_pinned_build_and_its_successor_is() -> None:
    for name, successor in REMOVED.items():
        assert name not in PINNED_BUILD
        assert flag_named(successor.split()[0]) is not None


def test_pins_are_found_by_every_name_with_and_without_dashes() -> None:
    for name in ("ncmoe", "-ncmoe", "--n-cpu-moe", "n-cpu-moe"):
        assert pinnable_flag(name) is flag_of("ncmoe")
    assert pinnable_flag("--temp") is None


def test_a_flag_writes_nothing_for_off_and_for_a_zero_that_says_nothing() -> None:
    assert flag_of("nkvo").words(False) == () and flag_of("nkvo").words(True) == ("-nkvo",)
    assert flag_of("ncmoe").words(0) == () and flag_of("cache_ram_mib").words(0) == ("-cram", "0")
    assert flag_of("split").words((3.0, 1.0)) == ("-ts", "3,1")
    assert flag_of("cache_ram_mib").words(None) == ()


def test_no_other_module_has_a_list_of_flags() -> None:
    """Count of different flags that a module spells; the right-hand side of `LISTS` says why it may."""
    names = {name for flag in FLAGS for name in (*flag.names, *flag.negation)}
    lists = {}
    for path in sorted((ROOT / "src" / "llmstack").rglob("*.py")):
        literals = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
        }
        where = str(path.relative_to(ROOT / "src" / "llmstack"))
        if len(literals) > MOST_LITERALS and where not in LISTS:
            lists[where] = sorted(literals)
    assert not lists


SERVER = "/opt/llama-server"
PLANNED = (
    "-m /m/a.gguf -a a -c 65536 -np 1 -ngl 41 -ncmoe 20 -ctk q4_0 -ctv q4_0 -fa on -b 2048 -ub 2048 -lm none "
    "-cram 8192 -ctxcp 32 -t 8 -n 8192 -rea off --jinja --fit off"
)
ON_THREADS = (
    "-m /m/a.gguf -c 8192 -np 2 -kvu -ngl 0 -dev none -ctk f16 -ctv f16 -fa on -b 2048 -ub 512 -lm mmap -cram 512 "
    "-ctxcp 0 --swa-full --no-repack -t 4 -n 8192 -rea off --reasoning-budget 0 --jinja --fit off --temp 0.7 "
    "--top-p 0.8 --top-k 20 --min-p 0 --repeat-penalty 1.05 --presence-penalty 1.5"
)
WITH_DRAFT_MODEL = (
    "-m /m/b.gguf -c 32768 -np 1 -ngl 30 -ncffn 4 -nkvo -ts 3,1 -ctk q8_0 -ctv q8_0 -fa on -b 2048 -ub 512 -lm mmap "
    "-cram 0 -ctxcp 0 --spec-type draft-simple -md /m/s.gguf -ngld 25 -ctkd f16 -ctvd f16 --spec-draft-n-max 3 "
    "--spec-draft-p-min 0 -mm /m/v.gguf -t 8 -n 100 -rea auto --jinja --fit off"
)
WITH_THE_STACK_S_OWN = (
    "-m /m/c.gguf --host 127.0.0.1 --port 8080 --api-key-file /k --slot-save-path /s --metrics --no-ui "
    "--cors-origins http://x --load-mode none --new 1 -to 60 -lv 4 --sse-ping-interval 5 --no-warmup -tb 4 -ot x=CPU "
    "-s 1 --cache-ram 1"
)


@pytest.mark.parametrize(
    ("command", "argv", "name"),
    [
        (SERVER, PLANNED, "fedce96bbe2f7ecf"),
        (
            "python -m llmstack.engine.embedded",
            ON_THREADS,
            "62beeaf025bb8c78",
        ),  # not as before -dev ceased to count
        (SERVER, WITH_DRAFT_MODEL, "a5bb66502737f5eb"),
        (SERVER, WITH_THE_STACK_S_OWN, "f14acd9e6abc6167"),
    ],
    ids=["experts in RAM", "threads", "draft model", "the stack's own flags"],
)
def test_saved_states_of_earlier_versions_are_in_the_folder_of_the_same_name(
    command: str, argv: str, name: str
) -> None:
    assert folder_name([*command.split(), *argv.split()]) == name


def test_a_flag_that_the_table_does_not_have_names_another_folder() -> None:
    plain = folder_name([SERVER, "-m", "m.gguf"])
    changed = {folder_name([SERVER, "-m", "m.gguf", *more]) for more in (("--new", "1"), ("--new", "2"), ("--newer",))}
    assert len(changed) == 3 and plain not in changed
    for flag, value in itertools.product(FLAGS, ("1", "2")):
        words = [flag.name, value] if flag.takes_value else [flag.name]
        assert (folder_name([SERVER, "-m", "m.gguf", *words]) == plain) is not flag.shapes_state, flag.name


@pytest.mark.parametrize("name", YOUNGER)
def test_a_flag_younger_than_the_pinned_build_is_refused_there_by_name(name: str) -> None:
    assert name not in PINNED_BUILD and name in parse_help(help_text())
    with pytest.raises(MissingPart, match=f"no flag {name}"):
        fit((name, "1024"), PINNED_BUILD)
