"""What flags an engine takes, read from its own `--help`, and an argv made to fit them.

llama-server's flags change between builds, and an unknown one ends it at start. So an argv is fitted before
anything is started: a flag under another name is renamed, a flag with an older equivalent is translated, one
that only tunes is left out with a note, and every other one is refused by name.

The layout of the help text: `common_arg::to_string` in llama.cpp's common/arg.cpp: the flags start at column
0, separated by commas, then a value hint, then at least two spaces (or a new line) and the description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmstack.errors import MissingPart

_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_HEADER = re.compile(r"^(?P<flags>--?[A-Za-z][\w.-]*(?:,\s+--?[A-Za-z][\w.-]*)*)(?P<rest>.*)$")


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
        hint = re.match(r" (?! )(?P<hint>\S+(?: \S+)*?)(?:\s{2,}|$)", match["rest"])
        options.append(Option(names, hint["hint"] if hint else ""))
    return Flags(tuple(options))


def spans(argv: Sequence[str], flags: Flags) -> list[tuple[str, ...]]:
    """Splits an argv into options with their values. A value may start with `-` where the option takes one."""
    found: list[tuple[str, ...]] = []
    index = 0
    while index < len(argv):
        name = argv[index]
        option = flags.find(name)
        following = argv[index + 1] if index + 1 < len(argv) else None
        takes = (option is not None and option.takes_value) or _is_value(following)
        if takes and following is not None:
            found.append((name, following))
            index += 2
        else:
            found.append((name,))
            index += 1
    return found


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
                next="llmstack engine install   builds one that has it; llmstack engine list   shows what is here",
            )
        result.extend(replaced)
        wished, given = " ".join(span), " ".join(replaced)
        changes.append(f"{wished} → {given}" if given else f"{wished} left out: this build does not have it")
    return Fitted(tuple(result), tuple(changes))


def _is_value(following: str | None) -> bool:
    return following is not None and not _FLAG.fullmatch(following)


_ALIASES: tuple[tuple[str, ...], ...] = (
    # each group: names of one option over time (common/arg.cpp, its history)
    ("-m", "--model"),
    ("-c", "--ctx-size"),
    ("-b", "--batch-size"),
    ("-ub", "--ubatch-size"),
    ("-np", "--parallel"),
    ("-t", "--threads"),
    ("-tb", "--threads-batch"),
    ("-fa", "--flash-attn"),
    ("-ngl", "--gpu-layers", "--n-gpu-layers"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-kvu", "--kv-unified"),
    ("-nkvo", "--no-kv-offload"),
    ("-ot", "--override-tensor"),
    ("-ncmoe", "--n-cpu-moe"),
    ("-cmoe", "--cpu-moe"),
    ("-ts", "--tensor-split"),
    ("-sm", "--split-mode"),
    ("-mg", "--main-gpu"),
    ("-dev", "--device"),
    ("-cram", "--cache-ram"),
    ("-ctxcp", "--ctx-checkpoints", "--swa-checkpoints"),
    ("-a", "--alias"),
    ("-lm", "--lm", "--load-mode"),
    ("-mm", "--mmproj"),
    ("-rea", "--reasoning"),
    ("-md", "--model-draft", "--spec-draft-model"),
    ("-ngld", "--gpu-layers-draft", "--spec-draft-ngl"),
    ("-ctkd", "--cache-type-k-draft", "--spec-draft-type-k"),
    ("-ctvd", "--cache-type-v-draft", "--spec-draft-type-v"),
    ("--draft-p-min", "--spec-draft-p-min"),
    ("--no-ui", "--no-webui"),
)

_TUNING = frozenset(
    # flags whose absence changes no result and no memory budget: they are left out, with a note
    {
        "--sse-ping-interval",
        "--cache-idle-slots",
        "--no-cache-idle-slots",
        "--log-jsonl",
        "--no-ui",
        "--no-webui",
        "--no-perf",
    }
)


def _translate(name: str, value: str | None, flags: Flags) -> tuple[str, ...] | None:
    for group in _ALIASES:
        if name in group:
            for other in group:
                option = flags.find(other)
                if option is not None and option.takes_value == (value is not None):
                    return (other,) if value is None else (other, value)
    key = _canonical(name)
    rule = _RULES.get(key)
    if rule is not None:
        replaced = rule(value, flags)
        if replaced is not None:
            return replaced
    return () if name in _TUNING else None


def _canonical(name: str) -> str:
    for group in _ALIASES:
        if name in group:
            return group[-1]
    return name


def _load_mode(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """Before `--load-mode` (llama.cpp pull 20834) there were `--no-mmap` and `--mlock`; mmap was the default."""
    older = {
        "auto": (),
        "mmap": (),
        "none": ("--no-mmap",),
        "mlock": ("--no-mmap", "--mlock"),
        "mmap+mlock": ("--mlock",),
    }
    wanted = older.get(value or "")
    if wanted is None or not all(flag in flags for flag in wanted):
        return None
    return wanted


def _no_mmap(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    return ("--load-mode", "none") if "--load-mode" in flags else None


def _mlock(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    return ("--load-mode", "mmap+mlock") if "--load-mode" in flags else None


def _flash_attention(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """Before build 6325 or so `-fa` was a switch; leaving it out meant off."""
    if "-fa" not in flags:
        return None
    return {"on": ("-fa",), "off": (), None: ("-fa", "on")}.get(value)


def _cpu_experts(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """`--n-cpu-moe N` is short for an override of the first N blocks' expert tensors (common/arg.cpp)."""
    if "--override-tensor" not in flags or value is None or not value.isdigit():
        return None
    if int(value) == 0:
        return ()
    blocks = "|".join(str(block) for block in range(int(value)))
    return ("--override-tensor", rf"blk\.({blocks})\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU")


def _all_experts(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    if "--override-tensor" not in flags:
        return None
    return ("--override-tensor", r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU")


def _reasoning(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """`-rea on|off` sets enable_thinking for the template; the older way says so to the template itself."""
    if value == "auto":
        return ()
    if "--chat-template-kwargs" not in flags or value not in ("on", "off"):
        return None
    return ("--chat-template-kwargs", json.dumps({"enable_thinking": value == "on"}))


def _fit(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """A build without `--fit` never changes what it was told: `--fit off` is what it does anyway."""
    return () if value == "off" else None


def _default_off(value: str | None, flags: Flags) -> tuple[str, ...] | None:
    """Nothing of the kind exists in that build, so zero of it is what it has."""
    return () if value == "0" else None


_RULES: dict[str, Callable[[str | None, Flags], tuple[str, ...] | None]] = {
    "--load-mode": _load_mode,
    "--no-mmap": _no_mmap,
    "--mlock": _mlock,
    "--flash-attn": _flash_attention,
    "--n-cpu-moe": _cpu_experts,
    "--cpu-moe": _all_experts,
    "--reasoning": _reasoning,
    "--fit": _fit,
    "-fit": _fit,
    "--cache-ram": _default_off,
    "--swa-checkpoints": _default_off,
}
