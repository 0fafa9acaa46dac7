"""Which type each tensor of a quantised file has.

The mixes of `llama_tensor_get_type_impl`, src/llama-quant.cpp, build 11434 (with an importance matrix, as
every published file has one). Norms, biases, routers and the small recurrent tensors stay F32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmstack.gguf.types import BLOCKS, GgmlType, tensor_bytes

T = GgmlType
_BASE: dict[str, GgmlType] = {
    "F16": T.F16, "BF16": T.BF16, "Q8_0": T.Q8_0, "Q8_K_XL": T.Q8_0, "Q6_K": T.Q6_K, "Q6_K_XL": T.Q6_K,
    "Q5_K_M": T.Q5_K, "Q5_K_S": T.Q5_K, "Q5_K_XL": T.Q5_K, "Q4_K_M": T.Q4_K, "Q4_K_S": T.Q4_K, "Q4_K_XL": T.Q4_K,
    "Q4_0": T.Q4_0, "Q4_1": T.Q4_1, "IQ4_XS": T.IQ4_XS, "IQ4_NL": T.IQ4_NL, "Q3_K_M": T.Q3_K, "Q3_K_S": T.Q3_K,
    "Q3_K_L": T.Q3_K, "Q3_K_XL": T.Q3_K, "IQ3_M": T.IQ3_S, "IQ3_S": T.IQ3_S, "IQ3_XXS": T.IQ3_XXS, "Q2_K": T.Q2_K,
    "Q2_K_XL": T.Q2_K, "IQ2_M": T.IQ2_S, "IQ2_XXS": T.IQ2_XXS, "MXFP4": T.MXFP4, "MXFP4_MOE": T.MXFP4,
}  # fmt: skip

_ODD: dict[GgmlType, GgmlType] = {
    # rows that do not fill a block of 256 fall back (tensor_type_fallback, llama-quant.cpp)
    T.IQ2_XXS: T.IQ4_NL, T.IQ2_S: T.IQ4_NL, T.IQ3_XXS: T.IQ4_NL, T.IQ3_S: T.IQ4_NL, T.IQ4_XS: T.IQ4_NL,
    T.Q2_K: T.Q4_0, T.Q3_K: T.Q4_0, T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0,
}  # fmt: skip

_LADDER = (T.IQ2_XXS, T.IQ2_S, T.Q2_K, T.IQ3_XXS, T.Q3_K, T.IQ4_XS, T.Q4_K, T.Q5_K, T.Q6_K, T.Q8_0)
_ODD_LADDER = (T.IQ4_NL, T.Q5_0, T.Q5_1, T.Q8_0)
_PLAIN = re.compile(
    r"norm|\.bias$|ssm_conv1d|ssm_a$|ssm_d$|ssm_dt|ffn_gate_inp|attn_sinks|rope_freqs|\.scale$|exp_probs"
)


def names() -> tuple[str, ...]:
    return tuple(_BASE)


def base_name(quant: str) -> str:
    """`UD-Q4_K_XL` → `Q4_K_XL`: the maker's own mix is near the plain one; its published size does the rest."""
    return quant.upper().removeprefix("UD-")


def choose_type(quant: str, name: str, shape: Sequence[int], layers: int, experts: int, tied: bool) -> GgmlType:
    """The type of one tensor. Raises KeyError for a quant that is not known."""
    kind = _BASE[base_name(quant)]
    if len(shape) == 1 or _PLAIN.search(name):
        return T.F32
    if kind in (T.F16, T.BF16, T.F32):
        return kind
    expert = "_exps" in name
    if kind is T.MXFP4:
        return T.MXFP4 if expert else T.Q8_0
    kind = _mixed(base_name(quant), kind, name, layers, experts, tied)
    return _fitting(kind, shape[0])


def _fitting(kind: GgmlType, row: int) -> GgmlType:
    if row % BLOCKS[kind][0] == 0:
        return kind
    other = _ODD.get(kind, T.Q8_0)
    return other if row % BLOCKS[other][0] == 0 else T.F16


def _mixed(quant: str, kind: GgmlType, name: str, layers: int, experts: int, tied: bool) -> GgmlType:
    small = quant.startswith(("IQ2", "Q2"))
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return T.Q8_0 if kind is T.Q8_0 else T.Q5_K if quant.startswith(("IQ2", "IQ3_XXS")) else T.Q6_K
    if name == "token_embd.weight":
        return T.IQ3_S if quant in ("IQ2_M", "IQ3_XXS") else kind
    match = re.match(r"blk\.(\d+)\.(\w+)\.", name)
    layer, part = (int(match[1]), match[2]) if match else (0, "")
    if quant == "Q8_K_XL" and part and not part.endswith("_exps") and experts:
        return T.BF16  # what the published sizes come to: the experts in Q8_0, the rest of a block whole
    if quant.endswith("_XL") and not part.endswith("_exps") and kind not in (T.Q8_0, T.Q6_K) and experts:
        return T.Q6_K if kind is T.Q5_K else T.Q5_K  # dynamic mixes keep all but the experts higher
    if part in ("attn_v", "attn_v_b"):
        if small or quant.startswith("IQ3"):
            return T.Q4_K
        if quant in ("IQ4_XS", "IQ4_NL"):
            return T.Q5_K
        if quant.startswith("Q3_K"):
            return T.Q5_K if layer < 2 or quant == "Q3_K_L" else T.Q4_K
        return T.Q6_K if quant in ("Q4_K_M", "Q5_K_M", "Q4_K_XL", "Q5_K_XL") and _more(layer, layers) else kind
    if part == "attn_qkv":
        return {"Q4_K_M": T.Q5_K, "Q5_K_M": T.Q6_K, "Q3_K_M": T.Q4_K}.get(quant, kind)
    if part.startswith("ffn_down"):
        if quant in ("Q4_K_M", "Q5_K_M", "Q4_K_XL", "Q5_K_XL") and _more(layer, layers):
            return T.Q6_K
        if quant.startswith("Q3_K") and quant != "Q3_K_S":
            return T.Q5_K if layer < layers // 16 or quant == "Q3_K_L" else T.Q4_K
        if quant.startswith("Q2_K"):
            return T.Q3_K
        return T.Q4_K if quant == "IQ3_M" and layer < layers // 8 else kind
    if part == "attn_output":
        return {"Q2_K": T.Q3_K, "Q3_K_M": T.Q4_K, "Q3_K_L": T.Q5_K, "IQ3_M": T.Q4_K, "IQ3_XXS": T.IQ3_S}.get(
            quant, kind
        )
    return kind


def _more(layer: int, layers: int) -> bool:
    """`use_more_bits`: the first and last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def adjust(layout: Sequence[tuple[str, tuple[int, ...]]], kinds: Sequence[GgmlType], target: int) -> list[GgmlType]:
    """Moves feed-forward tensors one type up or down, layer by layer, until the sum is nearest to `wanted` bytes."""
    result = list(kinds)
    total = sum(tensor_bytes(kind, shape) for (_, shape), kind in zip(layout, result, strict=True))
    movable = [index for index, (name, _) in enumerate(layout) if ".ffn_" in name and result[index] is not T.F32]
    for _ in range(3):
        for index in movable:
            shape, kind = layout[index][1], result[index]
            ladder = _LADDER if shape[0] % 256 == 0 else _ODD_LADDER
            step = T.IQ4_NL if kind is T.Q4_0 else kind  # of one size
            if step not in ladder:
                continue
            rung = ladder.index(step) + (1 if total < target else -1)
            if not 0 <= rung < len(ladder):
                continue
            other = ladder[rung]
            if shape[0] % BLOCKS[other][0]:
                continue
            change = tensor_bytes(other, shape) - tensor_bytes(kind, shape)
            if abs(total + change - target) < abs(total - target):
                result[index], total = other, total + change
    return result
