"""The kinds of value that llama-server's flags take: read from a user's text, written into an argv."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The cache types of --cache-type-k (common/arg.cpp, kv_cache_types), by their names on the command line.
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
LOAD_MODES = ("none", "mmap", "mlock", "mmap+mlock", "dio")
REASONING = ("on", "off", "auto")
YARN = "yarn"


@dataclass(frozen=True, slots=True)
class ValueKind:
    """hint: as `--help` prints it, empty for a switch. expects: the same for a person who got it wrong.

    read turns a user's text into the value and raises ValueError; write turns the value into an argument.
    """

    hint: str
    expects: str = ""
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _count_or_all(text: str) -> int:
    return 10_000 if text == "all" else _count(text)


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError(text)
    return value


def _yes(text: str) -> bool:
    if text.lower() in ("", "1", "on", "true", "yes"):
        return True
    if text.lower() in ("0", "off", "false", "no"):
        return False
    raise ValueError(text)


def _draft_model(text: str) -> bool:
    """Whether there is a draft model; which file it is, the goal says."""
    return True if text.endswith(".gguf") else _yes(text)


def _devices(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z][\w.:\[\]-]*", name) for name in names):
        raise ValueError(text)
    return names


def _file(text: str) -> str:
    """A path, by its form; whether it is there, the goal says."""
    if "/" not in text and "." not in text:
        raise ValueError(text)
    return text


MOST_SHARE = 1e9  # MiB of a card are written as shares too; llama.cpp divides by their sum in 32-bit floats


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(float(part) for part in text.replace("/", ",").split(","))
    if not all(0 <= share <= MOST_SHARE for share in shares) or not any(shares):  # nan compares as false
        raise ValueError(text)
    return shares


def _write_shares(shares: tuple[float, ...]) -> str:
    return ",".join(f"{share:.0f}" if share >= 100 else f"{share:.4g}" for share in shares)


def _word_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return read


def number(expects: str, *, zero: bool = False) -> ValueKind:
    return ValueKind("N", expects, _count_or_all if zero else _positive)


SWITCH = ValueKind("", "on or off", _yes)
KV_TYPE = ValueKind("TYPE", "one of " + ", ".join(KV_TYPES), _word_of(KV_TYPES))
LOAD_MODE = ValueKind("MODE", "one of " + ", ".join(LOAD_MODES), _word_of(LOAD_MODES))
ON_OFF_AUTO = ValueKind("[on|off|auto]", "on, off or auto", _word_of(REASONING))
DEVICES = ValueKind("<dev1,dev2,..>", "devices as the engine lists them, such as CUDA0,CUDA1", _devices, ",".join)
ROPE_SCALING = ValueKind("{none,linear,yarn}", "yarn or none", _word_of((YARN, "none")))
TEMPLATE_FILE = ValueKind("JINJA_TEMPLATE_FILE", "the path of a template, such as ./tools.jinja", _file)
SHARES = ValueKind("N0,N1,N2,...", "shares, such as 3,1", _shares, _write_shares)
DRAFT_MODEL = ValueKind("FNAME", "on, off or a GGUF file", _draft_model)
NUMBER = ValueKind("N")
TEXT = ValueKind("STRING")
FILE = ValueKind("FNAME")
