"""A model in several files, as llama.cpp's gguf-split leaves it: its names, its `split.*` keys.

The first file has all metadata, each has its own tensors; keys and types: tools/gguf-split/gguf-split.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmstack.gguf.writer import I32, U16, Tensor, Value, write


def split(metadata: Mapping[str, Value], tensors: Sequence[Tensor], stem: str, count: int) -> dict[str, bytes]:
    """File names (STEM-00001-of-0000N.gguf) and their bytes."""
    share = -(-len(tensors) // count)
    files = {}
    for number in range(count):
        keys: dict[str, Value] = dict(metadata) if number == 0 else {}
        keys |= {"split.no": U16(number), "split.count": U16(count), "split.tensors.count": I32(len(tensors))}
        own = tensors[number * share : (number + 1) * share]
        files[f"{stem}-{number + 1:05d}-of-{count:05d}.gguf"] = b"".join(write(keys, own))
    return files
