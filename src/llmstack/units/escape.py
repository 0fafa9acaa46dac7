"""The one owner of escaping in unit files.

Sources: systemd.syntax(7) "QUOTING", systemd.service(5) "COMMAND LINES", systemd.exec(5), and systemd 252's
load-fragment.c (config_parse_exec, config_parse_environ, config_parse_namespace_path_strv), extract-word.c,
string-util.c (string_is_safe) and utf8.c (unichar_is_valid).

| where            | words and quotes | C escapes | `%` specifiers | `$` variables              |
| ---------------- | ---------------- | --------- | -------------- | -------------------------- |
| ExecStart=       | yes              | yes       | yes            | off by the `:` prefix      |
| Environment=     | yes              | yes       | yes            | no                         |
| ReadWritePaths=  | yes              | no        | yes            | no                         |
| one path or text | no               | no        | yes            | no                         |

What no rule can carry (a newline, a NUL, bytes that are not UTF-8) is refused with BadInput, never bent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmstack.errors import BadInput

_BARE = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMED_ESCAPES = {"\t": "\\t", "\r": "\\r", "\\": "\\\\", '"': '\\"'}


def exec_line(argv: Sequence[str]) -> str:
    """An ExecStart= value that systemd turns back into exactly `argv`.

    The `:` prefix (systemd 244) switches `$` expansion off: `$$` would undo it in the arguments, but not in
    the path of the program, which systemd never expands. Raises BadInput.
    """
    if not argv:
        raise BadInput("a service needs a command to run")
    return ":" + " ".join([_program(argv[0]), *(_word(argument) for argument in argv[1:])])


def environment_line(name: str, value: str) -> str:
    """An Environment= value holding one variable. Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot name an environment variable")
    for character in value:
        if _is_control(character) and character != "\t":
            raise BadInput(
                f"the value of {name} holds the control character {character!r}",
                why="systemd drops such variables without a word (env-util.c: env_value_is_valid)",
            )
    return _word(f"{name}={value}")


def path_word(path: str) -> str:
    """One path among several (ReadWritePaths= and kin). Raises BadInput."""
    checked = _plain_path(path)
    quoted = checked.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return quoted if _BARE.fullmatch(checked) else f'"{quoted}"'


def path_value(path: str) -> str:
    """A setting that is one path to the end of the line (WorkingDirectory=, append:). Raises BadInput."""
    checked = _plain_path(path)
    if checked != checked.strip() or checked.endswith("\\"):
        raise BadInput(
            f"the folder name {path!r} starts or ends in a space, or ends in a backslash",
            why="systemd would cut it off or join it with the next line",
            next="rename the folder, or point LLMSTACK_HOME elsewhere",
        )
    return checked.replace("%", "%%")


def text_value(text: str) -> str:
    """A line for people (Description=): what cannot be shown on one line is replaced, nothing is refused."""
    shown = "".join("?" if _is_control(c) or not _is_valid(c) else c for c in text).strip()
    return shown.rstrip("\\").replace("%", "%%")


def _program(path: str) -> str:
    if not path.startswith("/"):
        raise BadInput(f"{path!r} is not an absolute path", why="systemd runs programs by absolute path")
    # string_is_safe() in config_parse_exec: systemd ignores the whole line if the path holds one of these.
    for character in path:
        if character in "\"'\\" or _is_control(character):
            raise BadInput(
                f"systemd refuses to run {path!r}: its path holds {character!r}",
                next="move the program to a folder without quotes and backslashes",
            )
    return _word(path)


def _word(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    out = []
    for character in text:
        _check(character, text)
        if character in _NAMED_ESCAPES:
            out.append(_NAMED_ESCAPES[character])
        elif _is_control(character):
            out.append(f"\\x{ord(character):02x}")
        else:
            out.append("%%" if character == "%" else character)
    return f'"{"".join(out)}"'


def _plain_path(path: str) -> str:
    if not path.startswith("/"):
        raise BadInput(f"{path!r} is not an absolute path")
    for character in path:
        _check(character, path)
        if _is_control(character):
            raise BadInput(f"the path {path!r} holds the control character {character!r}")
    return path


def _check(character: str, text: str) -> None:
    if character in "\n\0":
        raise BadInput(
            f"{text!r} holds a {'newline' if character == chr(10) else 'NUL'}, which no service can be given",
            next="rename the file or folder it comes from",
        )
    if not _is_valid(character):
        raise BadInput(
            f"{text!r} holds bytes that are not valid UTF-8, or a code point that is no character",
            why="systemd refuses such lines (utf8.c: utf8_is_valid)",
            next="rename the file or folder it comes from",
        )


def _is_control(character: str) -> bool:
    return ord(character) < 0x20 or ord(character) == 0x7F


def _is_valid(character: str) -> bool:
    """unichar_is_valid: no surrogates, no non-characters."""
    code = ord(character)
    return not (0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)
