"""What flags an engine takes, read from its own `--help`, and an argv made to fit them.

llama-server's flags change between builds, and an unknown one ends it at start. So an argv is fitted before
anything is started: a flag under another name is renamed, a flag with an older equivalent is translated, one
that only tunes is left out with a note, and every other one is refused by name.

The layout of the help text: `common_arg::to_string` in llama.cpp's common/arg.cpp: the flags start at column
0, separated by commas, then a value hint, then at least two spaces (or a new line) and the description. Forks that left
before that file existed (gpt_params_print_usage) begin at column 2, or at 9 where a flag has no short name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.errors import MissingPart
from llmstack.llama_server.flags import EXPERT_TENSORS, Flag, flag_named

_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_HEADER = re.compile(r"^(?: {2}(?: {7})?)?(?P<flags>--?[A-Za-z][\w.-]*(?:,\s+--?[A-Za-z][\w.-]*)*)(?P<rest>.*)$")
# ik_llama.cpp prints the words of some flags where the description should be
_CHOICES = re.compile(r"\s+(?P<hint>\[\w+(?:\|\w+)+\])\s*$")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: all its names, the value hint as printed (empty: it takes none)."""

    names: tuple[str, ...]
    value: str = ""

    @property
    def takes_value(self) -> bool:
        return bool(self.value)


@dataclass(frozen=True, slots=True)
class Flags:
    """Every option of one engine build."""

    options: tuple[Option, ...]

    def find(self, name: str) -> Option | None:
        for option in self.options:
            if name in option.names:
                return option
        return None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None


@dataclass(frozen=True, slots=True)
class Fitted:
    """An argv that this build accepts, and what was changed to get there (one sentence each)."""

    argv: tuple[str, ...]
    changes: tuple[str, ...] = ()


def parse_help(text: str) -> Flags:
    """Reads the options out of a `--help` text; an empty result means that the text is none."""
    options = []
    for line in text.splitlines():
        match = _HEADER.match(line)
        if match is None:
            continue
        names = tuple(_FLAG.findall(match["flags"]))
        # a hint follows the last name after one space; the description after two or more
        rest = match["rest"]
        hint = re.match(r" (?! )(?P<hint>\S+(?: \S+)*?)(?:\s{2,}|$)", rest) or _CHOICES.match(rest)
        options.append(Option(names, hint["hint"] if hint else ""))
    return Flags(tuple(options))


def has(build: Flags, flag: Flag) -> bool:
    """Whether a build does what the flag says: it has it, or, of a switch, only what undoes it, so that it is on."""
    names = flag.names if flag.takes_value else (*flag.names, *flag.negation)
    return any(name in build for name in names)


def spans(argv: Sequence[str], flags: Flags) -> list[tuple[str, ...]]:
    """Splits an argv into options with their values. A value may start with `-` where the option takes one."""
    options: list[tuple[str, ...]] = []
    index = 0
    while index < len(argv):
        name = argv[index]
        option = flags.find(name)
        following = argv[index + 1] if index + 1 < len(argv) else None
        takes = (option is not None and option.takes_value) or _is_value(following)
        if takes and following is not None:
            options.append((name, following))
            index += 2
        else:
            options.append((name,))
            index += 1
    return options


def fit(argv: Sequence[str], flags: Flags, *, engine: str = "this engine") -> Fitted:
    """The same wishes in this build's own flags.

    Raises MissingPart that names the first flag which the build lacks and which has no equivalent.
    """
    result: list[str] = []
    changes: list[str] = []
    for span in spans(argv, flags):
        name, value = span[0], span[1] if len(span) > 1 else None
        option = flags.find(name)
        if option is not None and option.takes_value == (value is not None):
            result.extend(span)
            continue
        replaced = _translate(name, value, flags)
        if replaced is None:
            raise MissingPart(
                f"{engine} has no flag {name}",
                why="its own --help does not list it, and nothing else in that build does the same",
                next=(
                    f"{command_line('engine', 'install')}   builds one that has "
                    f"it; {command_line('engine', 'list')}   shows what is here"
                ),
            )
        result.extend(replaced)
        wished, given = " ".join(span), " ".join(replaced)
        changes.append(f"{wished} → {given}" if given else f"{wished} left out: this build does not have it")
    return Fitted(tuple(result), tuple(changes))


def _is_value(following: str | None) -> bool:
    return following is not None and not _FLAG.fullmatch(following)


def _translate(name: str, value: str | None, build: Flags) -> tuple[str, ...] | None:
    """What says the same in this build: another name, an older way, or nothing; None where nothing does."""
    flag = flag_named(name)
    if flag is not None:
        for other in flag.negation if name in flag.negation else flag.names:
            option = build.find(other)
            if option is not None and option.takes_value == (value is not None):
                return (other,) if value is None else (other, value)
        if value in flag.without:
            return ()
        if name in flag.names and not flag.takes_value and has(build, flag):
            return ()
    rule = _RULES.get(flag.name if flag is not None else name)
    replaced = rule(value, build) if rule is not None else None
    if replaced is None and flag is not None and flag.optional:
        return ()
    return replaced


def _load_mode(value: str | None, build: Flags) -> tuple[str, ...] | None:
    """Before `--load-mode` (llama.cpp pull 20834) there were `--no-mmap` and `--mlock`; mmap was the default."""
    older = {
        "none": ("--no-mmap",),
        "mlock": ("--no-mmap", "--mlock"),
        "mmap+mlock": ("--mlock",),
    }
    switches = older.get(value or "")
    if switches is None or not all(name in build for name in switches):
        return None
    return switches


def _no_mmap(value: str | None, build: Flags) -> tuple[str, ...] | None:
    return ("--load-mode", "none") if "--load-mode" in build else None


def _mlock(value: str | None, build: Flags) -> tuple[str, ...] | None:
    return ("--load-mode", "mmap+mlock") if "--load-mode" in build else None


def _flash_attention(value: str | None, build: Flags) -> tuple[str, ...] | None:
    """Before build 6325 or so `-fa` was a switch; leaving it out meant off."""
    if "-fa" not in build:
        return None
    return {"on": ("-fa",), "off": (), None: ("-fa", "on")}.get(value)


def _cpu_experts(value: str | None, build: Flags) -> tuple[str, ...] | None:
    """`--n-cpu-moe N` is short for an override of the first N blocks' expert tensors (common/arg.cpp)."""
    if "--override-tensor" not in build or value is None or not value.isdigit():
        return None
    blocks = "|".join(str(block) for block in range(int(value)))
    return ("--override-tensor", rf"blk\.({blocks}){EXPERT_TENSORS}=CPU")


def _all_experts(value: str | None, build: Flags) -> tuple[str, ...] | None:
    if "--override-tensor" not in build:
        return None
    return ("--override-tensor", f"{EXPERT_TENSORS}=CPU")


def _reasoning(value: str | None, build: Flags) -> tuple[str, ...] | None:
    """`-rea on|off` sets enable_thinking for the template; the older way says so to the template itself."""
    if "--chat-template-kwargs" not in build or value not in ("on", "off"):
        return None
    return ("--chat-template-kwargs", json.dumps({"enable_thinking": value == "on"}))


# By the name in the table of flags, or the name that only older builds have.
_RULES: dict[str, Callable[[str | None, Flags], tuple[str, ...] | None]] = {
    "-lm": _load_mode,
    "--no-mmap": _no_mmap,
    "--mlock": _mlock,
    "-fa": _flash_attention,
    "-ncmoe": _cpu_experts,
    "-cmoe": _all_experts,
    "-rea": _reasoning,
}
