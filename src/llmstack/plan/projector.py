"""An image encoder (mmproj): what its header says, and the memory it takes beside the model.

llama.cpp puts it on the first device of `-dev`, on the processor where that is `none` (common/arg.cpp, mmproj_device).
It loads every tensor, and reserves a compute buffer for one image of a middling size (clip.cpp, warmup); a larger image
makes that buffer grow while a request is answered. A plan counts the largest image, or a full card would end the server
then. Limits by kind: `load_hparams`; which tensor tells the output's width: `clip_n_mmproj_embd`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llmstack.gguf import GgufError, GgufHeader
from llmstack.plan.projector_graph import EncoderShape, encoder_bytes

MIB = 1 << 20
BATCH_TOKENS = 1024  # --mtmd-batch-max-tokens: small images are read together up to this
# Buffers of a card that the report leaves out: cuBLAS' workspace, and products in F16. An upper estimate, not measured.
SCRATCH_MIB = 64
UNKNOWN_SHARE = 1.5  # of a kind whose graph is not described here
UNREAD_MIB = 600  # buffers of an encoder that is known by its size alone; the largest of the catalog's takes 490


@dataclass(frozen=True, slots=True)
class Kind:
    """How an encoder of one kind (`clip.projector_type`) treats images.

    tokens: the most that one image becomes; 0 where every image has the file's own size. start: tokens of the image
    that the buffer is reserved for at first, 0 for the largest. merge: the default. rotated, copied: EncoderShape's.
    batches: several images are computed at once. output: the tensor whose dimension is the output's width.
    """

    output: tuple[str, int]
    tokens: int = 0
    start: int = 0
    merge: int = 1
    rotated: bool = False
    copied: bool = False
    batches: bool = False


_MM_2 = ("mm.2.weight", 1)
KINDS = {
    "mlp": Kind(_MM_2, copied=True),
    "gemma3": Kind(("mm.input_projection.weight", 0), merge=4),
    "gemma4v": Kind(("mm.input_projection.weight", 1), 1120, 256, 3, rotated=True, copied=True, batches=True),
    "idefics3": Kind(("mm.model.fc.weight", 1)),
    "internvl": Kind(("mm.model.mlp.3.weight", 1), batches=True),
    "pixtral": Kind(_MM_2, 1024, 256, rotated=True),
    "qwen2vl_merger": Kind(_MM_2, 4096, 2116, 2, rotated=True),
    "qwen2.5vl_merger": Kind(_MM_2, 4096, 2116, 2, rotated=True),
    "qwen3vl_merger": Kind(_MM_2, 4096, 2116, 2, rotated=True, copied=True),
}
_MERGE_KEYS = ("clip.vision.spatial_merge_size", "clip.vision.projector.scale_factor")


@dataclass(frozen=True, slots=True)
class ProjectorFacts:
    """Bytes of its weights, of the buffers for the largest image, and of those that are reserved at the start.

    output: width of what it hands to the text model. tokens: the most of one image, or of one tile of it. sees: it
    reads images (others read sound). known: its header was read and its graph is described here.
    """

    path: str
    kind: str
    output: int
    weights: int
    compute: int
    compute_at_start: int
    tokens: int
    sees: bool = True
    known: bool = True

    def device_bytes(self, *, scratch: bool) -> int:
        """scratch: on a card whose products use buffers of their own."""
        total = self.weights + self.compute
        return total + SCRATCH_MIB * MIB + self.compute // 2 if scratch else total

    @property
    def reported_bytes(self) -> int:
        """As llama-server counts it: for the image of the start (mtmd_get_memory_usage)."""
        return self.weights + self.compute_at_start


def read_projector(header: GgufHeader, *, path: str = "") -> ProjectorFacts:
    """Raises GgufError for a file that is no image encoder, or lacks what its memory follows from."""
    values = header.values
    if header.arch != "clip":
        raise GgufError(f"it is a model of the architecture {header.arch}, not an image encoder (mmproj)")
    kind = str(values.get("clip.projector_type") or values.get("clip.vision.projector_type") or "")
    weights = sum(tensor.size for tensor in header.tensors)
    if not values.get("clip.has_vision_encoder"):
        return ProjectorFacts(path, kind, 0, weights, 0, 0, 0, sees=False)
    known = KINDS.get(kind)
    traits = known or Kind(("", 0), rotated=True, copied=True)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    merge = next((_number(values, key) for key in _MERGE_KEYS if values.get(key)), traits.merge)
    shape = _shape(kind, traits, values, shapes, merge)
    side, start = _sides(traits, values, shape.patch * merge)
    tokens = max((side // (shape.patch * merge)) ** 2, 1)
    images = max(BATCH_TOKENS // tokens, 1) if traits.batches else 1
    largest = encoder_bytes(shape, side // shape.patch, side // shape.patch, images)
    at_start = encoder_bytes(shape, start // shape.patch, start // shape.patch)
    sound = _sound(values)
    share = 1.0 if known else UNKNOWN_SHARE
    return ProjectorFacts(
        path,
        kind,
        shape.text,
        weights,
        int(largest * share) + sound,
        int(at_start * share) + sound,
        tokens,
        known=known is not None,
    )


def projector_of_size(size: int, output: int, path: str) -> ProjectorFacts:
    """One that is not here, and of which only the size is known."""
    return ProjectorFacts(path, "", output, size, UNREAD_MIB * MIB, UNREAD_MIB * MIB, 0, known=False)


def _shape(
    kind: str, traits: Kind, values: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], merge: int
) -> EncoderShape:
    width = _number(values, "clip.vision.embedding_length")
    first = shapes.get("v.patch_embd.weight.1") or ()
    output = shapes.get(traits.output[0], ())
    text = output[traits.output[1]] if len(output) > traits.output[1] else _number(values, "clip.vision.projection_dim")
    inner = shapes.get("mm.0.bias") or shapes.get("mm.0.weight", (0, width * merge**2))[1:]
    return EncoderShape(
        width=width,
        ff=_feed_forward(values, shapes, width),
        patch=_number(values, "clip.vision.patch_size"),
        merge=merge,
        inner=inner[0],
        text=text,
        extra="v.class_embd" in shapes,
        fused="v.blk.0.attn_qkv.weight" in shapes,
        gated="v.blk.0.ffn_gate.weight" in shapes,
        rotated=traits.rotated,
        normed=kind == "gemma4v",
        temporal=bool(first),
        windowed=kind == "qwen2.5vl_merger" and bool(values.get("clip.vision.n_wa_pattern")),
        copied=traits.copied,
    )


def _feed_forward(values: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], width: int) -> int:
    """Old files leave the key 0, or have the two matrices under each other's name (clip.cpp, is_ffn_swapped)."""
    matrix = shapes.get("v.blk.0.ffn_up.weight", ())
    if len(matrix) == 2:
        return matrix[1] if matrix[0] == width else matrix[0]
    return _number(values, "clip.vision.feed_forward_length")


def _sides(traits: Kind, values: Mapping[str, object], token: int) -> tuple[int, int]:
    """Pixels of the sides of the largest image, and of the one the server reserves for; token: pixels of a side."""
    own = _number(values, "clip.vision.image_size", 0)
    pixels = _number(values, "clip.vision.image_max_pixels", 0)
    if not traits.tokens:
        side = max(own, math.isqrt(pixels)) or 64 * token
        return side // token * token or token, side // token * token or token
    largest, start = math.isqrt(traits.tokens) * token, math.isqrt(traits.start or traits.tokens) * token
    return largest, start


def _sound(values: Mapping[str, object]) -> int:
    """Whisper's 3000 frames, for an encoder that hears as well: a feed-forward part and four rows beside it."""
    if not values.get("clip.has_audio_encoder"):
        return 0
    width = _number(values, "clip.audio.embedding_length", 1280)
    return 4 * 3000 * (_number(values, "clip.audio.feed_forward_length", 4 * width) + 4 * width)


def _number(values: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = values.get(key, default)
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not 0 <= value < 1 << 31
        or (not value and default is None)
    ):
        raise GgufError(f"the image encoder's file lacks {key}, or it says {value!r}")
    return value
