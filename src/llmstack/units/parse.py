"""Reads units back the way systemd does: what tests, drift checks and `diff` compare with.

Source: systemd.syntax(7), systemd.service(5) and extract-word.c of systemd 252. Only what we write is read:
specifiers other than `%%` are refused, so a unit that would mean something else is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.errors import BadInput

_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_WHITESPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class ParsedUnit:
    """settings: (section, key, raw value) in the order of the file."""

    settings: tuple[tuple[str, str, str], ...]

    def values(self, key: str, section: str | None = None) -> tuple[str, ...]:
        return tuple(v for s, k, v in self.settings if k == key and section in (None, s))

    def value(self, key: str, section: str | None = None) -> str | None:
        """The last one wins, as for all settings that are no lists."""
        values = self.values(key, section)
        return values[-1] if values else None

    @property
    def argv(self) -> tuple[str, ...]:
        """What ExecStart= runs. Raises BadInput."""
        line = self.value("ExecStart", "Service")
        if line is None:
            raise BadInput("the unit has no ExecStart=")
        return exec_argv(line)

    @property
    def environment(self) -> dict[str, str]:
        variables: dict[str, str] = {}
        for line in self.values("Environment", "Service"):
            for word in words(line):
                name, _, value = unspecify(word).partition("=")
                variables[name] = value
        return variables


def parse(text: str) -> ParsedUnit:
    """Sections, settings, comments and continued lines. Raises BadInput."""
    settings: list[tuple[str, str, str]] = []
    section = ""
    pending = ""
    for number, raw in enumerate(text.split("\n"), 1):
        if raw.lstrip(_WHITESPACE)[:1] in ("#", ";"):
            continue
        line = pending + raw
        pending = ""
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending = line[:-1] + " "
            continue
        line = line.strip(_WHITESPACE)
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise BadInput(f"line {number} of the unit is neither a section nor a setting: {raw!r}")
        settings.append((section, key.strip(_WHITESPACE), value.strip(_WHITESPACE)))
    return ParsedUnit(tuple(settings))


def exec_argv(line: str) -> tuple[str, ...]:
    """The argv of one ExecStart= line; with `:` in its prefix, `$` is a plain character. Raises BadInput."""
    argv = [unspecify(word) for word in words(line)]
    if not argv:
        raise BadInput("ExecStart= is empty")
    program = argv[0].lstrip("@-:+!")
    prefix = argv[0][: len(argv[0]) - len(program)]
    if ":" not in prefix:
        argv[1:] = [_undollar(word) for word in argv[1:]]
    return (program, *argv[1:])


def words(line: str) -> list[str]:
    """extract_first_word() with EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE until the end. Raises BadInput."""
    complete: list[str] = []
    word: list[str] | None = None
    quote = ""
    index = 0
    while index < len(line):
        character = line[index]
        index += 1
        if character == "\\":
            text, index = _escape(line, index)
            word = [*(word or []), text]
        elif quote:
            if character == quote:
                quote = ""
            else:
                (word := word if word is not None else []).append(character)
        elif character in "\"'":
            quote = character
            word = word if word is not None else []
        elif character in _WHITESPACE:
            if word is not None:
                complete.append("".join(word))
            word = None
        else:
            (word := word if word is not None else []).append(character)
    if quote:
        raise BadInput(f"a quote is never closed: {line!r}")
    if word is not None:
        complete.append("".join(word))
    return complete


def unspecify(word: str) -> str:
    """`%%` back to `%`. Raises BadInput for any other specifier."""
    parts = word.split("%%")
    if any("%" in part for part in parts):
        raise BadInput(f"{word!r} holds a specifier that systemd would replace")
    return "%".join(parts)


def _undollar(word: str) -> str:
    parts = word.split("$$")
    if any("$" in part for part in parts):
        raise BadInput(f"{word!r} holds a variable that systemd would replace")
    return "$".join(parts)


def _escape(line: str, index: int) -> tuple[str, int]:
    kind = line[index : index + 1]
    if kind in _SIMPLE_ESCAPES and kind:
        return _SIMPLE_ESCAPES[kind], index + 1
    if kind == "x":
        try:
            return chr(int(line[index + 1 : index + 3], 16)), index + 3
        except ValueError:
            pass
    raise BadInput(f"unknown escape in {line!r}")
