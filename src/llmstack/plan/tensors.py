"""The tensor table by block: bytes of experts, of the dense feed-forward part, of the rest, and what packing adds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmstack.gguf import GgmlType, TensorInfo
from llmstack.gguf.types import BLOCKS
from llmstack.llama_server.flags import DENSE_TENSORS, EXPERT_TENSORS

EXPERTS = re.compile(EXPERT_TENSORS)
DENSE_FFN = re.compile(DENSE_TENSORS)
_BLOCK = re.compile(r"^blk\.(\d+)\.")
_INPUT = re.compile(r"^(token_embd|token_embd_norm|token_types|position_embd|per_layer_token_embd)\.")
_UNUSED = re.compile(r"^(mtp|v|mm)\.")


@dataclass(slots=True)
class Group:
    """Bytes of one block's tensors, or of those that belong to no block; facts.BlockFacts says what each field means.

    output_bytes: the output matrix with its norm, 0 when it is the embedding matrix (tied). input_bytes: embeddings.
    """

    rest: int = 0
    experts: int = 0
    dense: int = 0
    largest_expert: int = 0
    ff: int = 0
    ffe: int = 0
    shared_ff: int = 0
    pad: int = 0
    amx: int = 0
    amx_dense: int = 0
    output_type: GgmlType = GgmlType.F32
    output_rows: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    embedding_bytes: int = 0
    norm_bytes: int = 0
    vocab: int = 0


def group(tensors: tuple[TensorInfo, ...], n_all: int) -> list[Group]:
    """Bytes by block; the last group is what belongs to no block."""
    groups = [Group() for _ in range(n_all + 1)]
    for tensor in tensors:
        match = _BLOCK.match(tensor.name)
        if match is None:
            _group_top(groups, tensor)
            continue
        il = int(match[1])
        if il >= n_all:
            continue  # llama.cpp never asks for it
        group = groups[il]
        group.pad += _cuda_pad(tensor)
        if EXPERTS.search(tensor.name):
            group.experts += tensor.size
            group.largest_expert = max(group.largest_expert, tensor.size)
            if "_down" in tensor.name and len(tensor.shape) == 3:
                group.ffe = tensor.shape[0]
        elif DENSE_FFN.search(tensor.name):
            group.dense += tensor.size
            group.amx_dense += _amx_delta(tensor)
            if ".ffn_up.weight" in tensor.name and len(tensor.shape) > 1:
                group.ff = tensor.shape[1]
        else:
            group.rest += tensor.size
            group.amx += _amx_delta(tensor)
            if ".ffn_up_shexp.weight" in tensor.name and len(tensor.shape) > 1:
                group.shared_ff = tensor.shape[1]
    return groups


def _group_top(groups: list[Group], tensor: TensorInfo) -> None:
    top = groups[-1]
    if _UNUSED.match(tensor.name):
        return
    if _INPUT.match(tensor.name):
        top.input_bytes += tensor.size
        if tensor.name == "token_embd.weight":
            top.embedding_bytes = tensor.size
            top.vocab = tensor.shape[-1]
            if not top.output_rows:
                _note_output(top, tensor)
    elif tensor.name.startswith("per_layer_"):
        groups[0].rest += tensor.size  # created with block number 0: LLM_TENSOR_PER_LAYER_MODEL_PROJ
    elif tensor.name.startswith("output_norm"):
        top.norm_bytes += tensor.size
        if top.output_bytes:
            top.output_bytes += tensor.size
    elif tensor.name.startswith("output."):
        top.output_bytes += tensor.size + (0 if top.output_bytes else top.norm_bytes)
        if tensor.name == "output.weight":
            _note_output(top, tensor)
    else:
        groups[0].rest += tensor.size


def _note_output(top: Group, tensor: TensorInfo) -> None:
    top.output_type, top.output_rows = tensor.type, tensor.shape[-1]
    top.pad, top.amx = _cuda_pad(tensor), _amx_delta(tensor)


# get_row_size (ggml/src/ggml-cpu/amx/mmq.cpp): bytes added to each block; and the block that K must fill
AMX_TYPES = {
    GgmlType.Q4_0: (0, 32),
    GgmlType.Q4_1: (0, 32),
    GgmlType.Q8_0: (4, 32),
    GgmlType.Q4_K: (4, 256),
    GgmlType.Q5_K: (4, 256),
    GgmlType.Q6_K: (0, 256),
    GgmlType.IQ4_XS: (2, 256),
}


def _amx_delta(tensor: TensorInfo) -> int:
    """Bytes that AMX's packed form takes more than the file's (ggml_backend_amx_get_alloc_size).

    Only matrices of MUL_MAT with a multiple of 32 rows; of a three-dimensional one only the first slice is
    counted there, so the difference can be negative.
    """
    if len(tensor.shape) < 2 or tensor.type not in AMX_TYPES or not tensor.name.endswith(".weight"):
        return 0
    extra, multiple = AMX_TYPES[tensor.type]
    if tensor.shape[0] % multiple or tensor.shape[1] % 32:
        return 0
    block, size = BLOCKS[tensor.type]
    return tensor.shape[1] * (tensor.shape[0] // block) * (size + extra) - tensor.size


def _cuda_pad(tensor: TensorInfo) -> int:
    """ggml_backend_cuda_buffer_type_get_alloc_size: a quantised ne0 is padded to 512 values, once a tensor."""
    block, size = BLOCKS[tensor.type]
    over = tensor.shape[0] % 512
    return (512 - over) // block * size if block > 1 and over else 0


def elements(tensor: TensorInfo) -> int:
    total = 1
    for extent in tensor.shape:
        total *= extent
    return total


def is_quantised(kind: GgmlType) -> bool:
    return BLOCKS[kind][0] > 1
