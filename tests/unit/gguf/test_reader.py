"""The header reader against good files, bad files and files mutated at random.

Fault numbers are those of reliability.md (GGUF, model).
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.gguf import GgmlType, GgufError, GgufHeader, Incomplete, merge, printable, read_header
from llmstack.gguf.reader import MAX_KEPT, MAX_STRINGS, MAX_TENSORS, MAX_TEXT, MAX_VALUES
from llmstack.gguf.writer import F32, I32, U32, Tensor, Value, header, write

TENSORS = [Tensor("a.weight", (32, 3), GgmlType.Q8_0, bytes(102)), Tensor("b.weight", (5,), GgmlType.F32, bytes(20))]


class Bytes:
    """A file in memory that counts what was asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.most = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.most = max(self.most, length)
        return self.data[offset : offset + length]


def file(metadata: dict[str, Value] | None = None, tensors: list[Tensor] | None = None) -> bytes:
    return b"".join(
        write({"general.architecture": "qwen3", **(metadata or {})}, TENSORS if tensors is None else tensors)
    )


def read(data: bytes, size: int | None = None) -> GgufHeader:
    return read_header(Bytes(data), len(data) if size is None else size)


def raw(
    values: list[tuple[str, int, bytes]], n_values: int | None = None, n_tensors: int = 0, rest: bytes = b""
) -> bytes:
    """A header written by hand: (key, type, payload)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, len(values) if n_values is None else n_values)
    for key, kind, payload in values:
        out += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + payload
    return out + rest


def tensor_info(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    out = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
    return out + struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)


def refused(data: bytes, match: str, size: int | None = None) -> GgufError:
    began = time.process_time()
    with pytest.raises(GgufError, match=match) as caught:
        read(data, size)
    assert time.process_time() - began < 0.5
    return caught.value


def test_a_header_gives_values_lengths_and_tensors() -> None:
    found = read(file({"qwen3.block_count": U32(2), "tokenizer.ggml.tokens": ["a"] * 5000, "x": F32([0.5, 1.5])}))
    assert found.arch == "qwen3"
    assert found.values["qwen3.block_count"] == 2
    assert found.values["x"] == (0.5, 1.5)
    assert found.n_tokens == 5000
    assert "tokenizer.ggml.tokens" not in found.values
    assert [(t.name, t.shape, t.type, t.size) for t in found.tensors] == [
        ("a.weight", (32, 3), GgmlType.Q8_0, 102),
        ("b.weight", (5,), GgmlType.F32, 20),
    ]


def test_a_chat_template_is_kept_and_a_huge_text_is_only_passed_over() -> None:
    found = read(file({"tokenizer.chat_template": "{{ x }}", "long": "y" * (2 << 20), "after": 7}))
    assert found.chat_template == "{{ x }}"
    assert "long" not in found.values
    assert found.values["after"] == 7


def test_long_number_arrays_are_counted_without_being_kept() -> None:
    found = read(file({"tokenizer.ggml.token_type": I32([1] * 300_000), "after": 7}))
    assert found.lengths["tokenizer.ggml.token_type"] == 300_000
    assert "tokenizer.ggml.token_type" not in found.values
    assert found.values["after"] == 7


def test_fault_1_every_truncation_is_refused_with_its_offset() -> None:
    data = file({"qwen3.block_count": 2, "tokenizer.ggml.tokens": ["abc", "d"]})
    for length in range(len(data) - 20):
        began = time.process_time()
        with pytest.raises(GgufError) as caught:
            read(data[:length])
        assert time.process_time() - began < 0.05
        if length >= 24:
            assert caught.value.offset is not None or "appears" in str(caught.value)


@pytest.mark.parametrize("counts", [(1 << 60, 1), (1, 1 << 60), (1 << 63, 1 << 63)])
def test_fault_2_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    refused(b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(500), "more than the file can hold")


@pytest.mark.parametrize(
    "value",
    [
        (8, struct.pack("<Q", 1 << 40)),  # a text
        (9, struct.pack("<IQ", 8, 1 << 40)),  # an array of texts
        (9, struct.pack("<IQ", 4, 1 << 61)),  # an array of numbers whose size overflows 64 bits
        (9, struct.pack("<IQQ", 8, 2, 1 << 40)),  # a text inside an array
    ],
)
def test_fault_3_lengths_past_the_end_are_refused_in_little_memory(value: tuple[int, bytes]) -> None:
    data = raw([("k", *value)], rest=bytes(4000))
    tracemalloc.start()
    try:
        refused(data, "the file ends inside its header")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_fault_3_a_huge_sparse_file_cannot_make_the_reader_walk_it() -> None:
    class Zeros:
        def read_at(self, offset: int, length: int) -> bytes:
            head = raw([("k", 9, struct.pack("<IQ", 8, 1 << 36))])
            return (head[offset:] + bytes(length))[:length]

    began = time.process_time()
    with pytest.raises(GgufError, match="claims more than 256 MiB"):
        read_header(Zeros(), 1 << 42)
    assert time.process_time() - began < 1


def test_fault_4_a_tensor_past_the_end_is_an_incomplete_download() -> None:
    data = file()
    with pytest.raises(Incomplete, match="incomplete download") as caught:
        read(data[:-40])
    assert "resume" in caught.value.next


@pytest.mark.parametrize(
    "payload", [(4, struct.pack("<I", 0)), (4, struct.pack("<I", 13)), (8, struct.pack("<Q", 2) + b"32"), (7, b"\1")]
)
def test_fault_5_a_bad_alignment_is_refused(payload: tuple[int, bytes]) -> None:
    refused(raw([("general.alignment", *payload)], rest=bytes(100)), "not a power of two")


def test_fault_6_nested_arrays_are_refused_without_recursion() -> None:
    refused(raw([("k", 9, struct.pack("<IQ", 9, 1) * 5000)]), "holds arrays")


def test_fault_7_duplicate_keys_and_tensors_are_refused() -> None:
    refused(raw([("k", 4, bytes(4)), ("k", 4, bytes(4))], rest=bytes(64)), "appears twice")
    twice = tensor_info(b"t", (8,), 0, 0) + tensor_info(b"t", (8,), 0, 32)
    refused(raw([], n_tensors=2, rest=twice + bytes(200)), "appears twice")


def test_fault_7_text_that_is_not_utf8_is_refused() -> None:
    refused(raw([("k", 8, struct.pack("<Q", 2) + b"\xff\xfe")], rest=bytes(64)), "not UTF-8")
    refused(raw([], n_tensors=1, rest=tensor_info(b"\xff", (8,), 0, 0) + bytes(64)), "not UTF-8")


@pytest.mark.parametrize("shape", [(1 << 40, 1 << 40), (1 << 63,), (0,), (1 << 21,) * 3])
def test_fault_8_dimensions_whose_product_overflows_are_refused(shape: tuple[int, ...]) -> None:
    refused(raw([], n_tensors=1, rest=tensor_info(b"t", shape, 0, 0) + bytes(64)), "impossible shape")


def test_fault_12_control_characters_never_reach_the_terminal() -> None:
    error = refused(raw([("a\x1b[2Jb", 99, bytes(4))], rest=bytes(64)), "unknown type")
    assert "\x1b" not in str(error)
    assert "\\x1b" in str(error)
    assert printable("a\u202eb\x00") == "a\\u202eb\\x00"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x07\x08" + bytes(60), "not a GGUF"),
        (b"PK\x03\x04" + bytes(60), "zip archive"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "big-endian"),
        (raw([], n_tensors=1, rest=tensor_info(b"t", (8,), 77, 0) + bytes(64)), "type 77"),
        (raw([], n_tensors=1, rest=tensor_info(b"t", (33,), 2, 0) + bytes(64)), "do not fill"),
        (raw([], n_tensors=1, rest=tensor_info(b"t", (8,), 0, 64) + bytes(200)), "0 was expected"),
        (raw([], n_tensors=1, rest=tensor_info(b"t" * 64, (8,), 0, 0) + bytes(64)), "longer than 63"),
        (raw([], n_tensors=1, rest=tensor_info(b"t", (), 0, 0) + bytes(64)), "0 dimensions"),
        (raw([("", 4, bytes(4))], rest=bytes(64)), "empty"),
    ],
)
def test_what_llama_cpp_would_not_load_is_refused(data: bytes, match: str) -> None:
    refused(data, match)


def test_a_large_vocabulary_is_read_in_bounded_time_and_memory() -> None:
    """250k tokens and 250k merges: 300 ms and 64 MB are the limits on an idle machine."""
    words: dict[str, Value] = {
        "tokenizer.ggml.tokens": [f"token{n}" for n in range(250_000)],
        "tokenizer.ggml.merges": [f"to ken{n}" for n in range(250_000)],
    }
    data = file(words)
    tracemalloc.start()
    try:
        found = read(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (found.n_tokens, found.lengths["tokenizer.ggml.merges"]) == (250_000, 250_000)
    best = min(_seconds(lambda: read(data)) for _ in range(5))
    assert best < 0.3


def _seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def test_reads_are_small_pieces_of_a_remote_file() -> None:
    source = Bytes(file({"tokenizer.ggml.tokens": ["x" * 40] * 100_000}))
    read_header(source, len(source.data))
    assert source.most <= 1 << 20


def _shard(number: int, count: int, name: str) -> GgufHeader:
    meta: dict[str, Value] = {"split.no": U32(number), "split.count": U32(count), "split.tensors.count": U32(count)}
    return read(file(meta, [Tensor(name, (8,), GgmlType.F32, bytes(32))]))


def test_shards_become_one_header() -> None:
    whole = merge([_shard(0, 2, "a"), _shard(1, 2, "b")])
    assert [tensor.name for tensor in whole.tensors] == ["a", "b"]


@pytest.mark.parametrize(
    ("shards", "match"),
    [
        ([(0, 2, "a"), (0, 2, "b")], "mixed up"),
        ([(0, 2, "a"), (1, 3, "b")], "mixed up"),
        ([(0, 2, "a"), (1, 2, "a")], "two shards"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(shards: list[tuple[int, int, str]], match: str) -> None:
    with pytest.raises(GgufError, match=match):
        merge([_shard(*shard) for shard in shards])


GOOD = file(
    {"qwen3.block_count": U32(2), "tokenizer.ggml.tokens": ["a", "bc"], "f": F32([1.0]), "s": "text", "b": True}
)
HEAD = len(header({"general.architecture": "qwen3"}, TENSORS)[0])


@settings(max_examples=400, deadline=500)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(GOOD)),
    st.binary(max_size=40),
)
def test_mutated_headers_raise_nothing_but_our_error(edits: list[tuple[int, int]], cut: int, more: bytes) -> None:
    data = bytearray(GOOD)
    for position, value in edits:
        data[position] = value
    for candidate in (bytes(data), bytes(data[:cut]) + more):
        try:
            read(candidate)
        except GgufError:
            continue


@settings(max_examples=300, deadline=500)
@given(st.integers(4, len(GOOD) - 9), st.sampled_from([0, 1, 0xFF, 1 << 31, 1 << 32, 1 << 60, 1 << 63, (1 << 64) - 1]))
def test_a_lying_number_anywhere_raises_nothing_but_our_error(position: int, lie: int) -> None:
    data = bytearray(GOOD)
    data[position : position + 8] = struct.pack("<Q", lie)
    try:
        read(bytes(data))
    except GgufError:
        return


def test_sums_are_bounded_and_not_only_items() -> None:
    """Many small things together: each passes its own limit."""
    tensor = struct.pack("<Q", 1)
    many = raw([], n_tensors=MAX_TENSORS + 1, rest=tensor * 8 * MAX_TENSORS)
    values = raw([], n_values=MAX_VALUES + 1, rest=b"\0" * 64 * MAX_VALUES)
    text = struct.pack("<Q", MAX_TEXT) + b"x" * MAX_TEXT
    texts = raw([(f"k{number}", 8, text) for number in range(1 + MAX_KEPT // MAX_TEXT)])
    half = MAX_STRINGS // 2 + 1
    strings = raw([(f"k{number}", 9, struct.pack("<IQ", 8, half) + b"\0" * 8 * half) for number in range(2)])
    for data in (many, values, texts, strings):
        began = time.process_time()
        with pytest.raises(GgufError, match="than a model has"):
            read(data, len(data) + (1 << 30))
        assert time.process_time() - began < 10
