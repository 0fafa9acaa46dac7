"""Image encoders that really run, of made-up weights: one for each kind of graph in llama.cpp's tools/mtmd/models.

The sizes of the shapes are those of published files, or small enough for a test that asks the whole stack.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llmstack.gguf import GgmlType
from llmstack.gguf.writer import F32, I32, U32, Tensor, Value, header

F, H = GgmlType.F32, GgmlType.F16


@dataclass(frozen=True, slots=True)
class Shape:
    """text: width of the text model. image: pixels of a side. merge: patches of a side that become one token."""

    kind: str
    width: int
    ff: int
    blocks: int
    heads: int
    text: int
    image: int
    patch: int
    merge: int = 1
    head: int = 0

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2

    def sized(self, **changes: int) -> Shape:
        return replace(self, **changes)  # type: ignore[arg-type]


GEMMA3 = Shape("gemma3", 1152, 4304, 27, 16, 2560, 896, 14, 4)
IDEFICS3 = Shape("idefics3", 768, 3072, 12, 12, 576, 512, 16, 4)  # SmolVLM
LLAVA = Shape("mlp", 1024, 4096, 24, 16, 4096, 336, 14)
PIXTRAL = Shape("pixtral", 1024, 4096, 24, 16, 5120, 1540, 14, 2)  # Mistral and Devstral Small
QWEN2VL = Shape("qwen2vl_merger", 1280, 5120, 32, 16, 1536, 560, 14, 2)
QWEN25VL = Shape("qwen2.5vl_merger", 1280, 3420, 32, 16, 2048, 560, 14, 2)
QWEN3VL = Shape("qwen3vl_merger", 1152, 4304, 27, 16, 5120, 768, 16, 2)  # Qwen 3.5 and 3.6, no deep stack
GEMMA4 = Shape("gemma4v", 768, 3072, 16, 12, 2560, 224, 16, 3)
INTERNVL = Shape("internvl", 1024, 4096, 24, 16, 896, 448, 14, 2)
ALL = (GEMMA3, IDEFICS3, LLAVA, PIXTRAL, QWEN2VL, QWEN25VL, QWEN3VL, GEMMA4, INTERNVL)


def small(kind: str = "gemma3", text: int = 128) -> Shape:
    """For a whole stack: an image is 16 tokens, and read in milliseconds."""
    shape = next(shape for shape in ALL if shape.kind == kind)
    merge = shape.merge
    return Shape(kind, 64, 128, 2, 2, text, shape.patch * merge * 4, shape.patch, merge)


def write_projector(shape: Shape, path: Path, *, seed: int = 1) -> Path:
    """Large ones are sparse zeros: for what a server reports of its memory that is enough."""
    tensors = list(_tensors(shape))
    data, size = header(_keys(shape), tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(data)
        if size < 16 << 20:
            rng = random.Random(seed)
            values = [rng.gauss(0, 0.3) for _ in range(4099)]
            chunks = {F: struct.pack(f"<{len(values)}f", *values), H: struct.pack(f"<{len(values)}e", *values)}
            for tensor in tensors:
                chunk = chunks[tensor.type]
                stream.write((chunk * (tensor.size // len(chunk) + 1))[: tensor.size])
                stream.write(bytes(-tensor.size % 32))
        stream.truncate(size)
    return path


def _keys(shape: Shape) -> dict[str, Value]:
    own: dict[str, Value] = {
        "embedding_length": U32(shape.width),
        "feed_forward_length": U32(shape.ff),
        "block_count": U32(shape.blocks),
        "attention.head_count": U32(shape.heads),
        "attention.layer_norm_epsilon": F32(1e-6),
        "projection_dim": U32(shape.text),
        "image_size": U32(shape.image),
        "patch_size": U32(shape.patch),
        "image_mean": F32([0.5, 0.5, 0.5]),
        "image_std": F32([0.5, 0.5, 0.5]),
    }
    merges = {"pixtral": "spatial_merge_size", "mlp": ""}
    qwen = "qwen" in shape.kind
    key = merges.get(shape.kind, "spatial_merge_size" if qwen else "projector.scale_factor")
    if key:
        own[key] = U32(shape.merge)
    if shape.kind == "qwen2.5vl_merger":
        own["n_wa_pattern"] = U32(8)
    if shape.kind == "idefics3":
        own["preproc_image_size"] = U32(shape.image * 4)
    return {
        "general.architecture": "clip",
        "general.name": f"made-up {shape.kind}",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": shape.kind,
        ("clip.use_silu" if shape.kind in ("pixtral", "qwen2.5vl_merger") else "clip.use_gelu"): True,
        **{f"clip.vision.{name}": value for name, value in own.items()},
        "clip.vision.unused": I32([0]),
    }


def _tensors(shape: Shape) -> list[Tensor]:
    width, patch = shape.width, shape.patch
    rows: dict[str, tuple[int, ...]] = {"v.patch_embd.weight": (patch, patch, 3, width)}
    biased = shape.kind not in ("pixtral", "gemma4v")
    if "qwen" in shape.kind:
        rows["v.patch_embd.weight.1"] = (patch, patch, 3, width)
    if shape.kind not in ("pixtral", "gemma4v", "mlp", "qwen2vl_merger", "qwen2.5vl_merger"):
        rows["v.patch_embd.bias"] = (width,)
    classes = shape.kind in ("mlp", "internvl")
    if classes:
        rows["v.class_embd"] = (width,)
    if shape.kind == "gemma4v":
        rows["v.position_embd.weight"] = (width, 1024, 2)
    elif shape.kind not in ("pixtral", "qwen2vl_merger", "qwen2.5vl_merger"):
        rows["v.position_embd.weight"] = (width, shape.patches + classes)
    if shape.kind in ("mlp", "pixtral"):
        rows |= _norm("v.pre_ln", width, biased)
    if shape.kind not in ("pixtral", "mlp", "gemma4v", "internvl"):
        rows |= _norm("v.post_ln", width, biased and shape.kind != "qwen2.5vl_merger")
    for block in range(shape.blocks):
        rows |= _block(f"v.blk.{block}.", shape, biased)
    rows |= _projection(shape)
    return [Tensor(name, size, F if len(size) == 1 or "position" in name else H) for name, size in rows.items()]


def _block(at: str, shape: Shape, biased: bool) -> Mapping[str, tuple[int, ...]]:
    width, ff = shape.width, shape.ff
    rows: dict[str, tuple[int, ...]] = {}
    matrices = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    if shape.kind in ("qwen3vl_merger", "internvl"):
        matrices = {"attn_qkv": (width, 3 * width)}
    matrices |= {"attn_out": (width, width), "ffn_up": (width, ff), "ffn_down": (ff, width)}
    if shape.kind in ("pixtral", "qwen2.5vl_merger", "gemma4v"):
        matrices["ffn_gate"] = (width, ff)
    for name, size in matrices.items():
        rows[f"{at}{name}.weight"] = size
        if biased:
            rows[f"{at}{name}.bias"] = size[1:]
    norms = biased and shape.kind != "qwen2.5vl_merger"
    rows |= {**_norm(f"{at}ln1", width, norms), **_norm(f"{at}ln2", width, norms)}
    if shape.kind == "gemma4v":
        head = width // shape.heads
        rows |= {f"{at}attn_q_norm.weight": (head,), f"{at}attn_k_norm.weight": (head,)}
        rows |= {f"{at}attn_post_norm.weight": (width,), f"{at}ffn_post_norm.weight": (width,)}
    if shape.kind == "internvl":
        rows |= {f"{at}ls1.weight": (width,), f"{at}ls2.weight": (width,)}
    return rows


def _projection(shape: Shape) -> Mapping[str, tuple[int, ...]]:
    width, text, merged = shape.width, shape.text, shape.width * shape.merge**2
    if shape.kind == "gemma3":
        return {"mm.input_projection.weight": (text, width), "mm.soft_emb_norm.weight": (width,)}
    if shape.kind == "gemma4v":
        return {"mm.input_projection.weight": (width, text)}
    if shape.kind == "idefics3":
        return {"mm.model.fc.weight": (merged, text)}
    if shape.kind == "pixtral":
        return {
            "v.token_embd.img_break": (text,),
            "mm.input_norm.weight": (width,), "mm.patch_merger.weight": (merged, width),
            "mm.1.weight": (width, text), "mm.2.weight": (text, text),
        }  # fmt: skip
    if shape.kind == "internvl":
        return {
            "mm.model.mlp.0.weight": (merged,), "mm.model.mlp.0.bias": (merged,),
            "mm.model.mlp.1.weight": (merged, text), "mm.model.mlp.1.bias": (text,),
            "mm.model.mlp.3.weight": (text, text), "mm.model.mlp.3.bias": (text,),
        }  # fmt: skip
    inner = text if shape.kind == "mlp" else merged
    return {
        "mm.0.weight": (merged, inner), "mm.0.bias": (inner,), "mm.2.weight": (inner, text), "mm.2.bias": (text,),
    }  # fmt: skip


def _norm(name: str, width: int, biased: bool) -> Mapping[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), **({f"{name}.bias": (width,)} if biased else {})}
