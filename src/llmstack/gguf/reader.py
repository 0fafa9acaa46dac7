"""Reads a GGUF header from any source of ranged reads, never more than the file's size allows.

Layout: ggml/include/gguf.h. Checks follow gguf_init_from_file_impl (ggml/src/gguf.cpp) and are stricter where
llama.cpp trusts the file: every count, length and offset is compared with the file's size before it is used.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Protocol

from llmstack.commands import command_line
from llmstack.gguf.header import GgufError, GgufHeader, HeaderValue, Incomplete, Scalar, TensorInfo, printable
from llmstack.gguf.types import BLOCKS, GgmlType

CHUNK = 1 << 20
MAX_HEADER = 256 << 20  # the largest known headers are near 20 MB; a sparse file could claim any number
MAX_TEXT = 1 << 20  # longer strings are counted, not kept
MAX_ARRAY = 4096  # one value per layer is what a plan needs; longer arrays are counted, not kept
MAX_VALUES = 65_536  # the most known is some hundred
MAX_TENSORS = 262_144  # 60 blocks of 384 experts, each in tensors of its own, are 70,000
MAX_STRINGS = 4_000_000  # of all arrays together: the largest vocabularies and their merges are one million
MAX_KEPT = 16 << 20  # bytes of all the text and numbers that are kept
MAX_NAME = 63  # GGML_MAX_NAME - 1, ggml.h
MAX_KEY = 65535  # the GGUF specification's limit
MAX_ELEMENTS = 1 << 62
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS: dict[int, struct.Struct] = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


def _again() -> str:
    return f"download it again: {command_line('models', 'pull', 'NAME')}"


def _too_much(what: str, offset: int) -> GgufError:
    why = "no known model has such a header; the file is damaged or hostile"
    return GgufError(f"{what} than a model has", why=why, offset=offset)


class RangedSource(Protocol):
    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        ...


class _Cursor:
    """A forward-only view of the source through one chunk; every step is bounded by the file's size."""

    def __init__(self, source: RangedSource, size: int) -> None:
        self._source = source
        self._size = size
        self._limit = min(size, MAX_HEADER)
        self._start = 0
        self._buffer = b""
        self._at = 0  # within the buffer
        self._hash = hashlib.sha256()
        self.kept = 0  # bytes of what was read to be kept
        self.strings = 0  # that were stepped over

    @property
    def offset(self) -> int:
        return self._start + self._at

    @property
    def left(self) -> int:
        return self._limit - self.offset

    def digest(self) -> str:
        return self._hash.hexdigest()

    def _short(self, need: int, what: str) -> GgufError:
        if self.offset + need > self._size:
            return Incomplete(
                f"the file ends inside its header: {what} at byte {self.offset} needs {need} bytes, "
                f"the file has {self._size}",
                why="the download was interrupted, or the file is damaged",
                next=_again(),
                offset=self.offset,
            )
        return GgufError(
            f"the header claims more than {MAX_HEADER >> 20} MiB ({what} at byte {self.offset})",
            why="no known model has such a header; the file is damaged or hostile",
            offset=self.offset,
        )

    def need(self, count: int, what: str) -> None:
        """Makes `count` bytes available in the buffer, or raises."""
        if self._at + count <= len(self._buffer):
            return
        if count > self.left:
            raise self._short(count, what)
        self._start += self._at
        length = min(max(count, CHUNK), self._limit - self._start)
        self._buffer = self._source.read_at(self._start, length)
        self._at = 0
        self._hash.update(self._buffer)
        if len(self._buffer) < count:
            raise self._short(count, what)

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self._buffer[self._at : self._at + count]
        self._at += count
        self.kept += count
        return data

    def start(self, length: int) -> tuple[bytes, int]:
        """The file's first bytes, and its size."""
        if self._limit:
            self.need(min(length, self._limit), "the first bytes")
        return self._buffer[:length], self._size

    def skip(self, count: int, what: str) -> None:
        if count > self.left:
            raise self._short(count, what)
        self._at += count
        if self._at > len(self._buffer):
            self._start += self._at
            self._buffer, self._at = b"", 0

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def text(self, what: str, limit: int) -> str | None:
        """A string; None when it is longer than `limit` (it is skipped then)."""
        length = self.u64(what)
        if length > self.left:
            raise self._short(length, what)
        if length > limit:
            self.skip(length, what)
            return None
        start = self.offset
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise GgufError(f"{what} at byte {start} is not UTF-8", next=_again(), offset=start) from None

    def skip_strings(self, count: int, what: str) -> None:
        """Steps over `count` strings; the loop reads lengths straight from the chunk, for speed."""
        if count * 8 > self.left:
            raise self._short(count * 8, what)
        self.strings += count
        if self.strings > MAX_STRINGS:
            raise _too_much(f"{what} and those before it hold more strings", self.offset)
        unpack = _U64.unpack_from
        while count:
            self.need(8, what)
            buffer, at = self._buffer, self._at
            last = len(buffer) - 8
            while count and at <= last:
                at += 8 + unpack(buffer, at)[0]
                count -= 1
            step = at - self._at
            if step > self.left:
                raise self._short(step, what)
            self.skip(step, what)


def read_header(source: RangedSource, size: int) -> GgufHeader:
    """Reads the header of a file of `size` bytes. Raises GgufError, and nothing else of its own."""
    cursor = _Cursor(source, size)
    version, n_tensors, n_values = _preamble(cursor)
    values: dict[str, HeaderValue] = {}
    lengths: dict[str, int] = {}
    for _ in range(n_values):
        _read_value(cursor, values, lengths)
        if cursor.kept > MAX_KEPT or cursor.strings > MAX_STRINGS:
            raise _too_much("its values hold more text or more numbers", cursor.offset)
    alignment = _alignment(values)
    raw = [_read_tensor(cursor) for _ in range(n_tensors)]
    data_offset = -(-cursor.offset // alignment) * alignment
    tensors = _place(raw, alignment, data_offset, size)
    return GgufHeader(
        version=version,
        values=values,
        lengths=lengths,
        tensors=tensors,
        alignment=alignment,
        data_offset=data_offset,
        file_bytes=size,
        digest=cursor.digest(),
    )


def _preamble(cursor: _Cursor) -> tuple[int, int, int]:
    from llmstack.gguf.kinds import START, kind_of_start, other_file  # a catalog model has no file to read

    key = kind_of_start(*cursor.start(START))
    if key:
        other = other_file(key)
        raise GgufError(other.what, next=other.next, offset=0)
    magic = cursor.take(4, "the magic")
    if magic != b"GGUF":
        raise GgufError(
            f"this is not a GGUF file: it starts with {magic!r}",
            next=f"give the path of a .gguf file, or a name from: {command_line('models', 'list')}",
            offset=0,
        )
    version = cursor.u32("the version")
    if version not in (2, 3):
        raise GgufError(f"GGUF version {version} is not supported (2 and 3 are)", next=_again(), offset=4)
    n_tensors = cursor.u64("the number of tensors")
    n_values = cursor.u64("the number of values")
    # The smallest value has a key of one byte and one byte of content; the smallest tensor has one dimension.
    if n_values * (8 + 1 + 4 + 1) + n_tensors * (8 + 4 + 8 + 4 + 8) > cursor.left:
        raise Incomplete(
            f"the header claims {n_values} values and {n_tensors} tensors, more than the file can hold",
            why="the download was interrupted, or the file is damaged",
            next=_again(),
            offset=8,
        )
    if n_values > MAX_VALUES or n_tensors > MAX_TENSORS:
        raise _too_much(f"the header claims {n_values} values and {n_tensors} tensors, more", 8)
    return version, n_tensors, n_values


def _read_value(cursor: _Cursor, values: dict[str, HeaderValue], lengths: dict[str, int]) -> None:
    start = cursor.offset
    key = cursor.text("a key", MAX_KEY)
    if not key:
        raise GgufError(f"a key at byte {start} is empty or longer than {MAX_KEY} bytes", offset=start)
    if key in values or key in lengths:
        raise GgufError(f"the key {printable(key)} appears twice", next=_again(), offset=start)
    kind = cursor.u32(f"the type of {printable(key)}")
    if kind == _STRING:
        text = cursor.text(f"the text of {printable(key)}", MAX_TEXT)
        if text is not None:
            values[key] = text
    elif kind == _ARRAY:
        _read_array(cursor, key, values, lengths)
    else:
        values[key] = _scalar(cursor, kind, key)


def _scalar(cursor: _Cursor, kind: int, key: str) -> Scalar:
    form = _SCALARS.get(kind)
    if form is None:
        raise GgufError(f"{printable(key)} has the unknown type {kind}", next=_again(), offset=cursor.offset)
    value = form.unpack(cursor.take(form.size, printable(key)))[0]
    if kind == _BOOL:
        return bool(value)
    return float(value) if isinstance(value, float) else int(value)


def _read_array(cursor: _Cursor, key: str, values: dict[str, HeaderValue], lengths: dict[str, int]) -> None:
    what = f"the array {printable(key)}"
    kind = cursor.u32(what)
    count = cursor.u64(what)
    if kind == _ARRAY:
        raise GgufError(f"{what} holds arrays, which llama.cpp does not read", offset=cursor.offset)
    lengths[key] = count
    if kind == _STRING:
        cursor.skip_strings(count, what)
        return
    form = _SCALARS.get(kind)
    if form is None:
        raise GgufError(f"{what} has the unknown type {kind}", next=_again(), offset=cursor.offset)
    if count > MAX_ARRAY:
        cursor.skip(count * form.size, what)
        return
    items = struct.unpack(f"<{count}{form.format[1:]}", cursor.take(count * form.size, what))
    values[key] = tuple(bool(item) for item in items) if kind == _BOOL else items


def _alignment(values: dict[str, HeaderValue]) -> int:
    value = values.get("general.alignment", 32)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value & (value - 1):
        raise GgufError(f"general.alignment is {printable(repr(value))}, not a power of two", next=_again())
    return value


def _read_tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], GgmlType, int, int]:
    start = cursor.offset
    name = cursor.text("a tensor's name", MAX_NAME)
    if name is None:
        raise GgufError(f"a tensor's name at byte {start} is longer than {MAX_NAME} bytes", offset=start)
    what = f"tensor {printable(name)}"
    n_dims = cursor.u32(what)
    if not 0 < n_dims <= 4:
        raise GgufError(f"{what} has {n_dims} dimensions (1 to 4 are possible)", next=_again(), offset=start)
    shape = tuple(struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims, what)))
    total = 1
    for extent in shape:
        total *= extent
        if not 0 < total <= MAX_ELEMENTS:
            raise GgufError(f"{what} has an impossible shape {shape}", next=_again(), offset=start)
    number = cursor.u32(what)
    offset = cursor.u64(what)
    try:
        kind = GgmlType(number)
    except ValueError:
        raise GgufError(
            f"{what} has the type {number}, which llama.cpp build 11434 does not know",
            why="the file was made by a newer or another program",
            offset=start,
        ) from None
    block, block_bytes = BLOCKS[kind]
    if shape[0] % block:
        raise GgufError(f"{what}: rows of {shape[0]} do not fill {kind.name} blocks of {block}", offset=start)
    return name, shape, kind, offset, total // block * block_bytes


def _place(
    raw: list[tuple[str, tuple[int, ...], GgmlType, int, int]], alignment: int, data_offset: int, size: int
) -> tuple[TensorInfo, ...]:
    """Checks names and offsets: tensors follow each other, padded (gguf.cpp), and end within the file."""
    seen: set[str] = set()
    expected = 0
    tensors = []
    for name, shape, kind, offset, nbytes in raw:
        if name in seen:
            raise GgufError(f"tensor {printable(name)} appears twice", next=_again())
        seen.add(name)
        if offset != expected:
            raise GgufError(f"tensor {printable(name)} is at offset {offset}, {expected} was expected", next=_again())
        if data_offset + offset + nbytes > size:
            raise Incomplete(
                f"tensor {printable(name)} ends at byte {data_offset + offset + nbytes}, "
                f"the file has {size}: an incomplete download",
                next=f"resume it: {command_line('models', 'pull', 'NAME')}",
                offset=data_offset + offset,
            )
        expected += -(-nbytes // alignment) * alignment
        tensors.append(TensorInfo(name, shape, kind, offset, nbytes))
    return tuple(tensors)
