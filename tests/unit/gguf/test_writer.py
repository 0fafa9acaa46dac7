"""What the writer writes, the reference reader of the `gguf` package reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader

from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, I32, U32, U64, Tensor, header, write

METADATA = {
    "general.architecture": "qwen3",
    "general.alignment": U32(64),
    "qwen3.block_count": 2,
    "qwen3.big": U64(7),
    "qwen3.rope.freq_base": 1e6,
    "qwen3.pattern": [True, False, True],
    "tokenizer.ggml.tokens": ["a", "b", "ü"],
    "tokenizer.ggml.scores": F32([0.0, -1.0, 0.5]),
    "tokenizer.ggml.token_type": I32([1, 1, 3]),
    "tokenizer.ggml.add_bos_token": False,
}
TENSORS = [
    Tensor("a.weight", (32, 3), GgmlType.Q8_0, bytes(range(102))),
    Tensor("b.weight", (5,), GgmlType.F32, bytes(range(20))),
]


def test_the_reference_reader_reads_back_every_value_and_tensor(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"".join(write(METADATA, TENSORS)))
    reader = GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "qwen3"
    assert reader.fields["qwen3.block_count"].contents() == 2
    assert reader.fields["qwen3.rope.freq_base"].contents() == pytest.approx(1e6)
    assert reader.fields["qwen3.pattern"].contents() == [True, False, True]
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "ü"]
    assert reader.fields["tokenizer.ggml.scores"].contents() == [0.0, -1.0, 0.5]
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is False
    for wrote, read in zip(TENSORS, reader.tensors, strict=True):
        assert (read.name, tuple(int(n) for n in read.shape)) == (wrote.name, wrote.shape)
        assert read.data.tobytes() == wrote.data
        assert read.data_offset % 64 == 0


def test_a_header_alone_makes_a_sparse_file_of_the_stated_size(tmp_path: Path) -> None:
    bare = [Tensor(t.name, t.shape, t.type) for t in TENSORS]
    data, size = header(METADATA, bare)
    whole = b"".join(write(METADATA, TENSORS))
    assert size == len(whole)
    assert whole.startswith(data)


@pytest.mark.parametrize("data", [None, b"short"])
def test_data_of_another_size_is_refused_before_a_byte_is_written(data: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"need 20 bytes"):
        next(write({}, [Tensor("b.weight", (5,), GgmlType.F32, data)]))


@pytest.mark.parametrize("alignment", [0, 13, "32"])
def test_an_alignment_that_is_no_power_of_two_is_refused(alignment: object) -> None:
    with pytest.raises(ValueError, match="alignment"):
        header({"general.alignment": alignment}, [])  # type: ignore[dict-item]
