"""Reads and writes GGUF headers, bounded by the file's size. Pure: the bytes come from the caller."""

from llmstack.gguf.header import GgufError, GgufHeader, Incomplete, TensorInfo, merge, printable
from llmstack.gguf.reader import RangedSource, read_header
from llmstack.gguf.types import GgmlType, row_bytes, tensor_bytes

__all__ = [
    "GgmlType",
    "GgufError",
    "GgufHeader",
    "Incomplete",
    "RangedSource",
    "TensorInfo",
    "merge",
    "printable",
    "read_header",
    "row_bytes",
    "tensor_bytes",
]
