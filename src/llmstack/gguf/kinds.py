"""What a file is that was given as a model: one table, by its first bytes, and one by a GGUF's header.

A model that chats has no row. Architectures are the names of LLM_ARCH_NAMES (src/llama-arch.cpp, build 11434) and, for
files of other programs, of their converters.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from llmstack.commands import command_line
from llmstack.gguf.header import GgufHeader

START = 512  # bytes that are enough to tell


@dataclass(frozen=True, slots=True)
class OtherFile:
    """key: one word. what: the sentence, from "this is" on. next: what to do instead."""

    key: str
    what: str
    next: str


def _of(key: str, what: str, next: str) -> tuple[str, OtherFile]:
    return key, OtherFile(key, f"this is {what}", next)


def _list() -> str:
    return f"{command_line('models', 'list')}   shows models that run here"


def _again() -> str:
    return f"download it again: {command_line('models', 'pull', 'NAME')}"


def _gguf() -> str:
    return f"look for a GGUF of the same model: {command_line('models', 'pull', 'hf:OWNER/REPO')}"


def _table() -> dict[str, OtherFile]:
    beside = "give the model's own .gguf, which usually lies beside it"
    return dict(
        (
            # by the first bytes
            _of("empty", "an empty file: nothing was downloaded into it", _again()),
            _of("zeros", "a file of zeros: room for a download that did not happen", _again()),
            _of(
                "lfs-pointer",
                "a git LFS pointer: three lines that stand for the model, not the model",
                f"fetch the content with `git lfs pull`, or {_again()}",
            ),
            _of("html", "a web page that was saved under a model's name", _again()),
            _of("json", "JSON text: a configuration, or a server's error message that was saved", _again()),
            _of("text", "a text file", _list()),
            _of("safetensors", "a safetensors file: weights for PyTorch, which llama.cpp does not read", _gguf()),
            _of("pytorch", "a PyTorch checkpoint (a pickle), which llama.cpp does not read", _gguf()),
            _of("zip", "a zip archive: a PyTorch checkpoint, or a model that was packed", f"unpack it, or {_gguf()}"),
            _of("packed", "a compressed archive", "unpack it and give the .gguf inside"),
            _of(
                "ggml",
                "a model from before GGUF (GGML, GGMF or GGJT, until August 2023), which llama.cpp no longer reads",
                _gguf(),
            ),
            _of("whisper", "a whisper model (ggml .bin): it turns speech into text and does not chat", _list()),
            _of("old-lora", "a LoRA adapter in the format before GGUF, which llama.cpp no longer reads", _list()),
            _of("gguf-v1", "GGUF version 1, of August 2023, which llama.cpp no longer reads", _gguf()),
            _of("big-endian", "a GGUF for big-endian machines (s390x, for instance)", _gguf()),
            # by the header
            _of("projector", "a projector (mmproj): it shows images or sound to a model and is none itself", beside),
            _of(
                "lora",
                "a LoRA adapter: a change to a model, of no use without it",
                "merge it into its model with llama-export-lora and give the result, or give the model alone",
            ),
            _of("control-vector", "a control vector: it shifts a model's mood and is no model itself", beside),
            _of("imatrix", "an importance matrix (imatrix): a tool for quantising a model, not the model", beside),
            _of("vocabulary", "a vocabulary only: a tokenizer without weights", beside),
            _of("embedding", "an embedding model: it turns text into vectors and does not chat", _list()),
            _of("reranker", "a reranker: it scores texts against a question and does not chat", _list()),
            _of(
                "diffusion",
                "a text-diffusion model: llama-server cannot answer with it (llama.cpp has llama-diffusion-cli for it)",
                _list(),
            ),
            _of("image", "a model that makes images or video, which llama.cpp does not run", _list()),
            _of("speech", "a speech model (text to speech, or a vocoder): it makes sound and does not chat", _list()),
            _of(
                "draft",
                "a companion that only guesses ahead for a large model (MTP, EAGLE-3, DFlash) and cannot answer alone",
                "give the large model, and this file as its draft: --set md=FILE",
            ),
        )
    )


def other_file(key: str) -> OtherFile:
    """The row of this kind, its commands spelled as the program was called."""
    return _table()[key]


_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "lfs-pointer"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "packed"),
    (b"\x28\xb5\x2f\xfd", "packed"),
    (b"\xfd7zXZ\0", "packed"),
    (b"BZh", "packed"),
    (b"7z\xbc\xaf\x27\x1c", "packed"),
    (b"Rar!", "packed"),
    (b"\x80\x02", "pytorch"),
    (b"\x80\x04\x95", "pytorch"),
    (b"tjgg", "ggml"),  # GGJT, GGMF, GGML and GGLA as little-endian numbers
    (b"fmgg", "ggml"),
    (b"algg", "old-lora"),
    (b"ggjt", "ggml"),
    (b"ggla", "old-lora"),
)
_WHISPER_VOCABULARY = range(51864, 51867)
_WHISPER_AUDIO = 1500
_PAGE = rb"(?is)\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|\?xml)"  # compiled for what is no GGUF


def kind_of_start(start: bytes, size: int) -> str:
    """The kind of a file that is no GGUF of version 2 or 3, by its first START bytes; empty where they say nothing."""
    if size == 0:
        return "empty"
    for magic, key in _MAGICS:
        if start.startswith(magic):
            return key
    for test, key in _TESTS:
        if test(start, size):
            return key
    return ""


def _is_whisper(start: bytes, size: int) -> bool:
    if not start.startswith((b"lmgg", b"ggml")) or len(start) < 12:
        return False
    vocabulary, audio = struct.unpack("<2i", start[4:12])
    return vocabulary in _WHISPER_VOCABULARY and audio == _WHISPER_AUDIO


def _is_safetensors(start: bytes, size: int) -> bool:
    """Eight bytes of length, then a JSON object of that length."""
    if len(start) < 10:
        return False
    length = int.from_bytes(start[:8], "little")
    return 2 <= length <= size - 8 and start[8:9] == b"{"


def _is_old_imatrix(start: bytes, size: int) -> bool:
    """The count of entries, then a tensor's name with its length before it (tools/imatrix before GGUF)."""
    if len(start) < 16:
        return False
    entries, length = struct.unpack("<2i", start[:8])
    name = start[8 : 8 + max(length, 0)]
    return 0 < entries < 1 << 20 and 0 < length <= 64 and name.endswith(b".weight") and name.isascii()


def _is_text(start: bytes, size: int) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode()
    return len(text) >= 16 and all(c.isprintable() or c in "\r\n\t" for c in text)


_TESTS: tuple[tuple[Callable[[bytes, int], bool], str], ...] = (
    (lambda start, size: start[:4] in (b"FUGG", b"GGUF"[::-1]), "big-endian"),
    (lambda start, size: start[:8] == b"GGUF\x01\0\0\0", "gguf-v1"),
    (lambda start, size: start[:6] in (b"GGUF\0\0",) and start[6:8] != b"\0\0", "big-endian"),
    (_is_whisper, "whisper"),
    (lambda start, size: start.startswith((b"lmgg", b"ggml")), "ggml"),
    (_is_safetensors, "safetensors"),
    (_is_old_imatrix, "imatrix"),
    (lambda start, size: start[257:262] == b"ustar", "packed"),
    (lambda start, size: re.match(_PAGE, start) is not None, "html"),
    (lambda start, size: start.lstrip()[:1] in (b"{", b"[") and _is_text(start, size), "json"),
    (lambda start, size: len(start) >= 16 and not start.strip(b"\0"), "zeros"),
    (_is_text, "text"),
)

_GENERAL_TYPES = {"mmproj": "projector", "adapter": "lora", "imatrix": "imatrix", "vocab": "vocabulary"}
_KINDS = {
    "projector": ("clip",),
    "control-vector": ("controlvector",),
    "imatrix": ("imatrix",),
    "diffusion": ("dream", "llada", "llada-moe", "rnd1"),
    "draft": ("eagle3", "dflash", "gemma4-assistant"),
    "speech": ("wavtokenizer-dec", "qwen3tts", "pockettts", "whisper", "kokoro", "parler-tts", "dac", "csm", "snac"),
    "image": (
        *("flux", "sd1", "sdxl", "sd3", "wan", "qwen_image", "z_image", "hunyuan_video", "hyvid", "ltxv", "aura"),
        *("hidream", "cosmos", "lumina2", "chroma"),
    ),
    "embedding": (
        *("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3"),
        *("eurobert", "gemma-embedding", "llama-embed", "t5encoder"),
    ),
}
_ARCHITECTURES = {arch: key for key, names in _KINDS.items() for arch in names}
_POOLING_NONE, _POOLING_RANK = 0, 4  # enum llama_pooling_type, include/llama.h


def kind_of_header(header: GgufHeader) -> str:
    """The kind of a GGUF that is no model to chat with; empty for one that is, as far as its header says."""
    arch = header.values.get("general.architecture")
    arch = arch if isinstance(arch, str) else ""
    kind = header.values.get("general.type")
    if isinstance(kind, str) and kind in _GENERAL_TYPES:
        return "control-vector" if header.values.get("adapter.type") == "control_vector" else _GENERAL_TYPES[kind]
    if "adapter.type" in header.values or any(tensor.name.endswith(".lora_a") for tensor in header.tensors):
        return "lora"
    of_arch = _ARCHITECTURES.get(arch, "")
    if of_arch not in ("", "embedding"):
        return of_arch
    pooling = header.values.get(f"{arch}.pooling_type", _POOLING_NONE)
    if pooling == _POOLING_RANK or any(tensor.name.startswith("cls.") for tensor in header.tensors):
        return "reranker"
    if of_arch or pooling != _POOLING_NONE:
        return "embedding"
    if not header.tensors and header.n_tokens and header.split_count <= 1:
        return "vocabulary"
    return "draft" if is_prediction_only(header) else ""


def is_prediction_only(header: GgufHeader) -> bool:
    """Only the prediction (MTP) blocks of a model, which come after its trunk: there is no first block."""
    predicting, blocks = (
        header.values.get(f"{header.arch}.nextn_predict_layers", 0),
        header.values.get(f"{header.arch}.block_count", 0),
    )
    if not (isinstance(predicting, int) and isinstance(blocks, int) and 0 < predicting <= blocks) or not header.tensors:
        return False
    first = {tensor.name.split(".")[1] for tensor in header.tensors if tensor.name.startswith("blk.")}
    return bool(first) and "0" not in first
