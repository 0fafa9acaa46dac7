"""Reads models.toml files, lays the user's over the shipped one, and says on which line something is wrong.

Tables merge by name, key by key. The user's routes come before the shipped ones. Everything else replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from llmstack.errors import BadInput
from llmstack.gguf.header import printable

Path = tuple[str | int, ...]
T = TypeVar("T")

TOP_LEVEL = ("models", "upstreams", "routes", "profiles", "offline", "catalog")
_LISTS = ("routes",)
# The page that lists the keys of a table.
_PAGES = {"upstreams": "docs/proxy.md", "routes": "docs/proxy.md", "profiles": "docs/other-clients.md"}


def _edit(path: Path = ()) -> str:
    return f"edit the file; {_PAGES.get(str(path[0]) if path else '', 'docs/models.md')} lists every key"


@dataclass(frozen=True)
class Document:
    """One parsed file. source: its text."""

    name: str
    data: Mapping[str, Any]
    source: str = field(repr=False)

    @cached_property
    def lines(self) -> Mapping[Path, int]:
        """For each table and key the line it stands on (from 1). Only errors ask: it takes half the time of parsing."""
        return dict(_lines(self.source))


@dataclass(frozen=True)
class Overlay:
    """The files laid over each other, and which files: an error names the one that a key came from."""

    data: Mapping[str, Any]
    shipped: Document
    user: Document | None = None

    @cached_property
    def origin(self) -> Mapping[Path, str]:
        """For every key the file and line it came from."""
        return _origin(self.shipped, self.user)

    def where(self, path: Path) -> str:
        """`models.toml:12` of the key, or of the nearest table above it; empty when nothing is known."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origin:
                return self.origin[path[:length]]
        return ""

    def table(self, *path: str) -> Mapping[str, Any]:
        """A table by its path; an empty one when it is not there. Raises BadInput when it is no table."""
        value: Any = self.data
        for name in path:
            value = value.get(name, {})
            if not isinstance(value, dict):
                raise BadInput(f"{_at(self.where(path))}[{'.'.join(path)}] must be a table", next=_edit(path))
        result: Mapping[str, Any] = value
        return result

    def convert(self, path: Path, kind: type[T]) -> T:
        """The value at `path` as a typed record. Raises BadInput that names file, line and key."""
        value: Any = self.data
        for name in path:
            value = value[name]
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise self._bad(path, error) from None

    def wrong(self, path: Path, problem: str, *, next: str = "") -> BadInput:
        """The error for a key whose value has the right type and makes no sense, or is not there."""
        return BadInput(f"{_at(self.where(path))}{shown(path)} {problem}", next=next or _edit(path))

    def _bad(self, path: Path, error: msgspec.ValidationError) -> BadInput:
        text = str(error)
        message, _, inner = text.partition(" - at `$")
        below: list[str | int] = []
        for name, quoted, index in re.findall(r"\.([\w-]+)|\[\.\.\.\]|\[\"([^\"]+)\"\]|\[(\d+)\]", inner):
            below.append(int(index) if index else name or quoted)
        unknown = re.search(r"contains unknown field `(.+?)`", message)
        if unknown:
            full = (*path, *below, unknown[1])
            return BadInput(f"{_at(self.where(full))}unknown key {shown(full)}", next=_edit(path))
        missing = re.search(r"missing required field `(.+?)`", message)
        if missing:
            return BadInput(
                f"{_at(self.where((*path, *below)))}{shown((*path, *below))} lacks {missing[1]}", next=_edit(path)
            )
        full = (*path, *below)
        return BadInput(f"{_at(self.where(full))}{shown(full)}: {message[:1].lower()}{message[1:]}", next=_edit(path))


def shown(path: Path) -> str:
    """A key's path as a person would write it: `models.mine.sampling.top_k`, `routes[2].match`."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return printable(text)


def parse(text: str | bytes, name: str) -> Document:
    """One models.toml. Raises BadInput with the line for text that is no TOML, and for an unknown table."""
    import tomllib  # a model that is named by its path asks for no catalog

    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        data = tomllib.loads(source)
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: this file is not UTF-8 (byte {error.start})", next=_edit()) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r"at line (\d+)", message)
        where = f"{name}:{line[1]}" if line else name
        raise BadInput(
            f"{where}: {message.partition(' (at ')[0][:1].lower()}{message.partition(' (at ')[0][1:]}", next=_edit()
        ) from None
    document = Document(name, data, source)
    for key in data:
        if key not in TOP_LEVEL:
            line_number = min((line for path, line in document.lines.items() if path[0] == key), default=0)
            raise BadInput(
                f"{name}:{line_number}: unknown key {printable(key)}",
                why=f"known are {', '.join(TOP_LEVEL)}",
                next=_edit(),
            )
    return document


@dataclass(frozen=True, slots=True)
class CatalogTexts:
    """Both files as they are on disk. user: None where the user has none; user_name: what messages call it."""

    shipped: bytes
    user: bytes | None = None
    user_name: str = "your models.toml"


def load(texts: CatalogTexts, *, fetched: bytes | None = None) -> Overlay:
    """The user's file over the shipped one, with the models of a fetched one (catalog.fetched) between them.

    Raises BadInput that names file and line.
    """
    shipped = parse(texts.shipped, "models.toml")
    if fetched is not None:
        shipped = newest(shipped, parse(fetched, "the fetched catalog"))
    return merge(shipped, None if texts.user is None else parse(texts.user, texts.user_name))


def newest(shipped: Document, fetched: Document) -> Document:
    """Each model as it was looked up last, whole: keys of two versions of an entry are never mixed."""
    models = dict(shipped.data.get("models", {}))
    for name, entry in fetched.data.get("models", {}).items():
        if str(entry.get("checked", "")) >= str(models.get(name, {}).get("checked", "")):
            models[name] = entry
    return replace(shipped, data={**shipped.data, "models": models})


def merge(shipped: Document, user: Document | None = None) -> Overlay:
    """The user's file over the shipped one. Raises BadInput where one has a table and the other has none."""
    if user is None:
        return Overlay(shipped.data, shipped)
    tables = {key: value for key, value in user.data.items() if key not in _LISTS}
    data = _over(shipped.data, tables, (), shipped, user)
    for name in _LISTS:
        users, theirs = user.data.get(name, []), shipped.data.get(name, [])
        if not isinstance(users, list):
            raise BadInput(
                f"{user.name}:{user.lines.get((name,), 0)}: {name} must be written as [[{name}]]", next=_edit()
            )
        data[name] = [*users, *theirs]
    return Overlay(data, shipped, user)


def _origin(shipped: Document, user: Document | None) -> dict[Path, str]:
    """`models.toml:12` by key: the user's where both have it; of a list, the user's come first."""
    origin: dict[Path, str] = {}
    for document in (shipped, user) if user is not None else (shipped,):
        for path, line in document.lines.items():
            if user is not None and path[0] in _LISTS:
                if len(path) == 1 or not isinstance(path[1], int):
                    continue
                shift = len(user.data.get(str(path[0]), ())) if document is shipped else 0
                path = (path[0], path[1] + shift, *path[2:])
            origin[path] = f"{document.name}:{line}"
    return origin


def _over(
    low: Mapping[str, Any], high: Mapping[str, Any], path: Path, shipped: Document, user: Document
) -> dict[str, Any]:
    result = dict(low)
    for key, value in high.items():
        here = (*path, key)
        below = result.get(key)
        if isinstance(value, dict):
            if below is not None and not isinstance(below, dict):
                raise _misplaced(here, "cannot be a table", shipped, user)
            result[key] = _over(below or {}, value, here, shipped, user)
        elif isinstance(below, dict):
            raise _misplaced(here, "must be a table", shipped, user)
        else:
            result[key] = value
    return result


def _misplaced(here: Path, problem: str, shipped: Document, user: Document) -> BadInput:
    return BadInput(f"{_at(_origin(shipped, user).get(here, ''))}{shown(here)} {problem}", next=_edit())


def _at(where: str) -> str:
    return f"{where}: " if where else ""


_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$"
_ASSIGN = rf"^\s*({_DOTTED})\s*=\s*(.*)$"


def _lines(source: str) -> Iterator[tuple[Path, int]]:
    """The line of every table header and key. tomllib has validated the text, so a line's start is enough."""
    table: Path = ()
    counts: dict[Path, int] = {}
    skip = _Inside()
    table_line, assignment_line = re.compile(_TABLE), re.compile(_ASSIGN)
    for number, line in enumerate(source.split("\n"), 1):
        if skip.open():
            skip.feed(line)
            continue
        header = table_line.match(line)
        if header:
            names: Path = tuple(_names(header[2]))
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                table = (*_indexed(names[:-1], counts), names[-1], counts[names])
                yield names, number
            else:
                table = _indexed(names, counts)
            yield table, number
            continue
        assignment = assignment_line.match(line)
        if assignment:
            yield (*table, *_names(assignment[1])), number
            yield from _inline((*table, *_names(assignment[1])), assignment[2], number)
            skip.feed(assignment[2])


def _inline(path: Path, text: str, number: int) -> Iterator[tuple[Path, int]]:
    """Keys of an inline table stand on its line."""
    if text.startswith("{"):
        for name in re.findall(rf"[{{,]\s*({_KEY})\s*=", text):
            yield (*path, *_names(name)), number


def _indexed(names: Sequence[str | int], counts: Mapping[Path, int]) -> Path:
    """Puts the index of the current element behind every array of tables on the way."""
    result: list[str | int] = []
    plain: list[str | int] = []
    for name in names:
        result.append(name)
        plain.append(name)
        if tuple(plain) in counts:
            result.append(counts[tuple(plain)])
    return tuple(result)


def _names(dotted: str) -> list[str]:
    return [name[1:-1] if name[0] in "\"'" else name for name in re.findall(_KEY, dotted)]


class _Inside:
    """Whether a value goes on on the next line: an open array or a multi-line string."""

    def __init__(self) -> None:
        self.depth = 0
        self.quote = ""

    def open(self) -> bool:
        return self.depth > 0 or bool(self.quote)

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if self.quote:
                end = text.find(self.quote, at)
                if end < 0:
                    if len(self.quote) == 1:
                        self.quote = ""
                    return
                if self.quote[0] == '"' and end and text[end - 1] == "\\":
                    at = end + 1
                    continue
                at, self.quote = end + len(self.quote), ""
                continue
            char = text[at]
            if char == "#":
                return
            if char in "\"'":
                self.quote = char * 3 if text[at : at + 3] == char * 3 else char
                at += len(self.quote)
                continue
            self.depth += (char in "[{") - (char in "]}")
            at += 1
