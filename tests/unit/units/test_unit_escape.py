"""Every value survives the way into a unit and back, or is refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.errors import BadInput
from llmstack.units import escape
from llmstack.units.parse import exec_argv, parse, unspecify, words

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\n\0")) | st.text(
    st.sampled_from(" %$\"'\\;#{}ab\t\r=-~é模")
)
PATH = st.text(st.characters(exclude_categories=("C",), exclude_characters="\"'\\")).map(lambda text: "/" + text)


@given(program=PATH, argv=st.lists(TEXT))
def test_any_argv_reads_back_as_it_was(program: str, argv: list[str]) -> None:
    line = escape.exec_line([program, *argv])
    assert "\n" not in line
    assert exec_argv(line) == (program, *argv)


@given(argv=st.lists(TEXT, min_size=1))
def test_any_argv_reads_back_out_of_a_whole_unit(argv: list[str]) -> None:
    text = f"[Service]\nExecStart={escape.exec_line(['/bin/x', *argv])}\nType=exec\n"
    unit = parse(text)
    assert unit.argv == ("/bin/x", *argv)
    assert unit.value("Type") == "exec"


@given(value=st.text(st.characters(exclude_categories=("C",))))
def test_any_variable_reads_back_as_it_was(value: str) -> None:
    line = escape.environment_line("NAME", value)
    assert parse(f"[Service]\nEnvironment={line}\n").environment == {"NAME": value}


@given(path=st.text(st.characters(exclude_categories=("C",))).map(lambda text: "/" + text))
def test_any_path_reads_back_as_it_was(path: str) -> None:
    assert [unspecify(word) for word in words(escape.path_word(path))] == [path]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/bin/x", "-m", "/m/a.gguf"], ":/bin/x -m /m/a.gguf"),
        (["/bin/x", "a b"], ':/bin/x "a b"'),
        (["/bin/x", "100%"], ':/bin/x "100%%"'),
        (["/bin/x", "$HOME"], ':/bin/x "$HOME"'),
        (["/bin/x", ";"], ':/bin/x ";"'),
        (["/bin/x", ""], ':/bin/x ""'),
        (["/bin/x", 'say "hi"\\'], ':/bin/x "say \\"hi\\"\\\\"'),
        (["/bin/x", "\x01"], ':/bin/x "\\x01"'),
        (["/my engine/x"], ':"/my engine/x"'),
    ],
)
def test_the_line_is_readable(argv: list[str], line: str) -> None:
    assert escape.exec_line(argv) == line


@pytest.mark.parametrize("bad", ["a\nb", "a\0b", "a\ud800b", "a\ufffeb", "a\ufdd0b"])
def test_what_no_unit_can_carry_is_refused(bad: str) -> None:
    for attempt in (
        lambda: escape.exec_line(["/bin/x", bad]),
        lambda: escape.environment_line("NAME", bad),
        lambda: escape.path_word("/" + bad),
        lambda: escape.path_value("/" + bad),
    ):
        with pytest.raises(BadInput):
            attempt()


@pytest.mark.parametrize("program", ["relative", "", '/a"b', "/a'b", "/a\\b", "/a\tb"])
def test_a_program_path_that_systemd_would_ignore_is_refused(program: str) -> None:
    with pytest.raises(BadInput):
        escape.exec_line([program])


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(BadInput):
        escape.exec_line([])


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A-B", "É"])
def test_a_variable_needs_a_name(name: str) -> None:
    with pytest.raises(BadInput):
        escape.environment_line(name, "x")


@pytest.mark.parametrize("value", ["a\rb", "a\x1bb", "a\x7fb"])
def test_a_variable_with_control_characters_is_refused_because_systemd_would_drop_it(value: str) -> None:
    with pytest.raises(BadInput, match="control character"):
        escape.environment_line("NAME", value)


@pytest.mark.parametrize("path", ["/a ", "/a\\", "relative"])
def test_a_path_that_cannot_stand_alone_on_a_line_is_refused(path: str) -> None:
    with pytest.raises(BadInput):
        escape.path_value(path)


def test_a_description_never_breaks_the_line() -> None:
    assert escape.text_value("model\n\x1b[31m 100% \\") == "model??[31m 100%% "
    assert escape.text_value("  spaced  ") == "spaced"
