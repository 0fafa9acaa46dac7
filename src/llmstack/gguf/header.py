"""What a GGUF header says, kept small: the values a plan needs and the table of tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.gguf.types import GgmlType

_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
VOCAB_APART = 128  # SPEC_VOCAB_MAX_SIZE_DIFFERENCE, common/speculative.cpp: padding may differ, tokens may not

Scalar = str | bool | int | float
HeaderValue = Scalar | tuple[Scalar, ...]


class GgufError(BadInput):
    """The file is not a GGUF that can be planned; `offset` is where in the file (bytes) that was seen."""

    def __init__(self, what: str, *, why: str = "", next: str = "", offset: int | None = None) -> None:
        super().__init__(what, why=why, next=next)
        self.offset = offset


class Incomplete(GgufError):
    """The file ends before its own table says it does: an interrupted download."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """shape[0] is the fastest dimension; offset counts from the start of the data, size is without padding."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """values: scalars and short arrays. lengths: the element count of every array, kept or skipped.

    file_bytes: the size of the file, or of all shards. digest: sha-256 of the header bytes that were read.
    """

    version: int
    values: Mapping[str, HeaderValue]
    lengths: Mapping[str, int]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_bytes: int
    digest: str

    @property
    def arch(self) -> str:
        """`general.architecture`; GgufError when the file does not name one."""
        value = self.values.get("general.architecture")
        if not isinstance(value, str) or not value:
            raise GgufError("the file does not name its architecture (general.architecture)")
        if not _ARCHITECTURE.fullmatch(value):
            raise GgufError(f"general.architecture is {printable(value, 60)}, which names no architecture")
        return value

    @property
    def name(self) -> str:
        value = self.values.get("general.name")
        return printable(value) if isinstance(value, str) else ""

    @property
    def chat_template(self) -> str | None:
        value = self.values.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None

    @property
    def n_tokens(self) -> int:
        """Size of the tokenizer's vocabulary; 0 when the file has none."""
        return self.lengths.get("tokenizer.ggml.tokens", 0)

    @property
    def split_count(self) -> int:
        value = self.values.get("split.count", 0)
        return int(value) if isinstance(value, int) else 0


def printable(text: str, limit: int = 200) -> str:
    """Text from a file, safe on a terminal: control, bidirectional and unassigned characters are escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def merge(shards: Sequence[GgufHeader]) -> GgufHeader:
    """One header for a split model: values of the first shard, tensors of all, in order.

    Offsets of tensors stay relative to their own shard. Raises GgufError when the shards do not belong
    together (llama_model_loader's checks, llama-model-loader.cpp).
    """
    first = shards[0]
    if len(shards) == 1:
        return first
    tensors: list[TensorInfo] = []
    seen: set[str] = set()
    for number, shard in enumerate(shards):
        if shard.split_count != len(shards) or shard.values.get("split.no") != number:
            raise GgufError(
                f"shard {number + 1} of {len(shards)} says it is shard "
                f"{_number(shard, 'split.no') + 1} of {shard.split_count}: the shards are mixed up",
                next=f"download the model again: {command_line('models', 'pull', 'NAME')}",
            )
        for tensor in shard.tensors:
            if tensor.name in seen:
                raise GgufError(f"tensor {printable(tensor.name)} is in two shards")
            seen.add(tensor.name)
            tensors.append(tensor)
    expected = _number(first, "split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise GgufError(f"the shards hold {len(tensors)} tensors, the first one promises {expected}")
    return GgufHeader(
        version=first.version,
        values=first.values,
        lengths=first.lengths,
        tensors=tuple(tensors),
        alignment=first.alignment,
        data_offset=first.data_offset,
        file_bytes=sum(shard.file_bytes for shard in shards),
        digest="-".join(shard.digest[:16] for shard in shards),
    )


def _number(header: GgufHeader, key: str, default: int = -1) -> int:
    value = header.values.get(key, default)
    return value if isinstance(value, int) else default
