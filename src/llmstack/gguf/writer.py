"""Writes GGUF version 3 files: the header, the tensor table, then the data, as pieces of bytes.

The layout is ggml/include/gguf.h: magic, version, two counts, key-value pairs, tensor infos, padding to
`general.alignment`, then each tensor's data padded to the same alignment.

    from llmstack.gguf import GgmlType
    from llmstack.gguf.writer import F32, Tensor, U32, write

    metadata = {"general.architecture": "qwen3", "qwen3.block_count": U32(2),
                "qwen3.rope.freq_base": F32(1e6), "tokenizer.ggml.scores": F32([0.0, 0.0])}
    tensors = [Tensor("output_norm.weight", (64,), GgmlType.F32, data)]
    for piece in write(metadata, tensors): stream.write(piece)

A plain str is a string, bool a bool, int a u32 (u64 when it does not fit, i64 when negative), float an f32,
a list an array of the type of its first element (ints become i32). The wrappers fix a number's or array's type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmstack.gguf.types import GgmlType, tensor_bytes

DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, ggml/include/gguf.h


@dataclass(frozen=True, slots=True)
class _Typed:
    """A number, or a list of numbers, whose GGUF type is given by the class."""

    value: int | float | Sequence[int] | Sequence[float]


class U8(_Typed):
    __slots__ = ()


class I8(_Typed):
    __slots__ = ()


class U16(_Typed):
    __slots__ = ()


class I16(_Typed):
    __slots__ = ()


class U32(_Typed):
    __slots__ = ()


class I32(_Typed):
    __slots__ = ()


class F32(_Typed):
    __slots__ = ()


class U64(_Typed):
    __slots__ = ()


class I64(_Typed):
    __slots__ = ()


class F64(_Typed):
    __slots__ = ()


Value = str | bool | int | float | _Typed | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]

_BOOL, _STRING, _ARRAY = 7, 8, 9  # enum gguf_type, ggml/include/gguf.h
_WRAPPERS: dict[type[_Typed], tuple[int, str]] = {
    U8: (0, "B"),
    I8: (1, "b"),
    U16: (2, "H"),
    I16: (3, "h"),
    U32: (4, "I"),
    I32: (5, "i"),
    F32: (6, "f"),
    U64: (10, "Q"),
    I64: (11, "q"),
    F64: (12, "d"),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor to write; shape[0] is the fastest dimension (ggml's ne[0]).

    data may be None only for `header`, whose caller makes the rest of the file sparse.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    data: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes, without padding."""
        return tensor_bytes(self.type, self.shape)


def header(metadata: Mapping[str, Value], tensors: Iterable[Tensor]) -> tuple[bytes, int]:
    """The bytes before the tensor data, padded, and the size of the whole file in bytes.

    A sparse file is these bytes and a truncate to that size. Raises ValueError for what GGUF cannot hold.
    """
    tensors = list(tensors)
    alignment = _alignment(metadata)
    pieces = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        pieces.append(_string(key))
        pieces.append(_pack(key, value))
    offset = 0
    for tensor in tensors:
        pieces.append(_string(tensor.name))
        pieces.append(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape))
        pieces.append(struct.pack("<IQ", tensor.type, offset))
        offset += _padded(tensor.size, alignment)
    before = b"".join(pieces)
    before += bytes(_padded(len(before), alignment) - len(before))
    return before, len(before) + offset


def write(metadata: Mapping[str, Value], tensors: Iterable[Tensor]) -> Iterator[bytes]:
    """The whole file in pieces. Raises ValueError when a tensor's data is absent or has another size."""
    tensors = list(tensors)
    for tensor in tensors:
        if tensor.data is None or len(tensor.data) != tensor.size:
            have = "no data" if tensor.data is None else f"{len(tensor.data)} bytes"
            raise ValueError(f"tensor {tensor.name} has {have}, its shape and type need {tensor.size} bytes")
    alignment = _alignment(metadata)
    yield header(metadata, tensors)[0]
    for tensor in tensors:
        assert tensor.data is not None
        yield tensor.data
        yield bytes(_padded(tensor.size, alignment) - tensor.size)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _alignment(metadata: Mapping[str, Value]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if isinstance(value, U32):
        value = value.value
    if not isinstance(value, int) or value < 8 or value & (value - 1):
        raise ValueError(f"general.alignment must be a power of two from 8, not {value!r}")
    return value


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _wrap(value: object) -> _Typed | None:
    """The typed number that a plain Python number stands for."""
    if isinstance(value, _Typed):
        return value
    if isinstance(value, float):
        return F32(value)
    if isinstance(value, int):
        if value < 0:
            return I64(value)
        return U32(value) if value < 1 << 32 else U64(value)
    return None


def _pack(key: str, value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, _Typed) and isinstance(value.value, Sequence):
        return _pack_numbers(type(value), value.value)
    typed = _wrap(value)
    if typed is not None:
        kind, code = _WRAPPERS[type(typed)]
        return struct.pack("<I" + code, kind, typed.value)
    if isinstance(value, Sequence) and value:
        return _pack_list(key, value)
    raise ValueError(f"{key}: GGUF cannot hold {value!r}; an empty array needs a wrapper, such as U32([])")


def _pack_list(key: str, values: Sequence[object]) -> bytes:
    first = values[0]
    if isinstance(first, bool):
        packed = struct.pack(f"<{len(values)}?", *values)
        return struct.pack("<IIQ", _ARRAY, _BOOL, len(values)) + packed
    if isinstance(first, str):
        strings = b"".join(_string(str(item)) for item in values)
        return struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + strings
    if isinstance(first, float):
        return _pack_numbers(F32, values)
    if isinstance(first, int):
        return _pack_numbers(I32, values)  # what llama.cpp's own converters write for integer arrays
    raise ValueError(f"{key}: GGUF has no array of {type(first).__name__}")


def _pack_numbers(kind: type[_Typed], values: Sequence[object]) -> bytes:
    number, code = _WRAPPERS[kind]
    return struct.pack(f"<IIQ{len(values)}{code}", _ARRAY, number, len(values), *values)
