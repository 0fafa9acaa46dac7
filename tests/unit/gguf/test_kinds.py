"""A file that was given as a model and is none is named as what it is, with the next step."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmstack.detect.model_file import open_model
from llmstack.gguf import GgmlType, GgufError
from llmstack.gguf.kinds import kind_of_start, other_file
from llmstack.gguf.writer import U32, Tensor, Value, write

F32 = GgmlType.F32
TOKENS = {"tokenizer.ggml.tokens": ["a", "b"]}


def gguf(
    arch: str, more: Mapping[str, Value] | None = None, tensors: tuple[str, ...] = ("token_embd.weight",)
) -> bytes:
    listed = [Tensor(name, (32, 2), F32, bytes(256)) for name in tensors]
    return b"".join(write({"general.architecture": arch, **(more or {})}, listed))


def safetensors() -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(8)


def old_imatrix() -> bytes:
    name = b"blk.0.attn_q.weight"
    return struct.pack("<2i", 1, len(name)) + name + struct.pack("<3i2f", 1, 1, 2, 0.5, 0.5)


def tar() -> bytes:
    return b"model.gguf".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")


OTHERS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "an empty file"),
    "zeros": (bytes(4096), "a file of zeros"),
    "an LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 400\n", "a git LFS pointer"
    ),
    "a web page": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "a web page"),
    "a web page in capitals, after a blank line": (b"\r\n<HTML><BODY>404</BODY></HTML>", "a web page"),
    "a server's XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "a server's JSON": (b'{"error": "Invalid username or password."}', "JSON text"),
    "a plain refusal": (b"Access to model is restricted. Log in first.\n", "a text file"),
    "safetensors": (safetensors(), "a safetensors file"),
    "a PyTorch zip": (b"PK\x03\x04" + bytes(60), "a zip archive"),
    "an old PyTorch pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(60), "a PyTorch checkpoint"),
    "gzip": (b"\x1f\x8b\x08\0" + zlib.compress(bytes(60)), "a compressed archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(60), "a compressed archive"),
    "tar": (tar(), "a compressed archive"),
    "GGML": (b"lmgg" + struct.pack("<7i", 32000, 4096, 256, 32, 32, 128, 2), "before GGUF"),
    "GGMF": (b"fmgg" + struct.pack("<8i", 1, 32000, 4096, 256, 32, 32, 128, 2), "before GGUF"),
    "GGJT": (b"tjgg" + struct.pack("<8i", 3, 32000, 4096, 256, 32, 32, 128, 2), "before GGUF"),
    "GGLA": (b"algg" + struct.pack("<3i", 1, 8, 16), "a LoRA adapter in the format before GGUF"),
    "whisper": (b"lmgg" + struct.pack("<4i", 51864, 1500, 384, 6), "a whisper model"),
    "GGUF 1": (b"GGUF" + struct.pack("<3I", 1, 1, 1) + bytes(60), "GGUF version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(60), "a GGUF for big-endian machines"),
    "an imatrix.dat": (old_imatrix(), "an importance matrix"),
    "an imatrix as GGUF": (gguf("", {"general.type": "imatrix"}, ("blk.0.attn_q.weight.in_sum2",)), "an importance"),
    "a projector": (gguf("clip", {"general.type": "mmproj"}, ("v.patch_embd.weight",)), "a projector"),
    "an old projector": (gguf("clip", {"clip.has_vision_encoder": True}, ("v.patch_embd.weight",)), "a projector"),
    "a LoRA": (gguf("llama", {"general.type": "adapter", "adapter.type": "lora"}), "a LoRA adapter"),
    "a LoRA that says no type": (gguf("llama", None, ("blk.0.attn_q.weight.lora_a",)), "a LoRA adapter"),
    "a control vector": (gguf("controlvector", None, ("direction.1",)), "a control vector"),
    "a vocabulary": (gguf("llama", TOKENS, ()), "a vocabulary only"),
    "bert": (gguf("bert", {"bert.pooling_type": U32(1)}), "an embedding model"),
    "nomic-bert": (gguf("nomic-bert"), "an embedding model"),
    "jina-bert-v3": (gguf("jina-bert-v3"), "an embedding model"),
    "gemma-embedding": (gguf("gemma-embedding"), "an embedding model"),
    "qwen3-embedding": (
        gguf("qwen3", {"qwen3.pooling_type": U32(3), "tokenizer.chat_template": "{{ messages }}"}), "an embedding model"
    ),
    "a reranker of bert": (gguf("bert", {"bert.pooling_type": U32(4)}), "a reranker"),
    "qwen3-reranker": (gguf("qwen3", None, ("token_embd.weight", "cls.output.weight")), "a reranker"),
    "dream": (gguf("dream"), "a text-diffusion model"),
    "llada-moe": (gguf("llada-moe"), "a text-diffusion model"),
    "flux": (gguf("flux"), "a model that makes images"),
    "wavtokenizer": (gguf("wavtokenizer-dec"), "a speech model"),
    "qwen3tts": (gguf("qwen3tts"), "a speech model"),
    "eagle3": (gguf("eagle3"), "a companion that only guesses ahead"),
    "dflash": (gguf("dflash"), "a companion that only guesses ahead"),
    "an MTP file": (
        gguf("qwen35", {"qwen35.block_count": U32(9), "qwen35.nextn_predict_layers": U32(1)}, ("blk.8.nextn.eh_proj",)),
        "a companion that only guesses ahead",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_each_kind_of_file_is_named_with_the_next_step(tmp_path: Path, what: str) -> None:
    data, name = OTHERS[what]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(GgufError) as refused:
        open_model(path)
    assert refused.value.what.startswith("this is ") and name in refused.value.what
    assert refused.value.next and str(path) in refused.value.why


@pytest.mark.parametrize("arch", ["qwen3", "llama", "gpt-oss", "qwen35", "gemma3", "mamba", "a-new-one"])
def test_a_model_that_chats_is_opened(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "model.gguf"
    more = {f"{arch}.pooling_type": U32(0), f"{arch}.block_count": U32(2), f"{arch}.nextn_predict_layers": U32(1)}
    path.write_bytes(gguf(arch, {**TOKENS, **more}, ("token_embd.weight", "blk.0.attn_q.weight", "blk.1.nextn.x")))
    assert open_model(path).header.arch == arch


def test_a_companion_that_guesses_ahead_is_opened_as_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "eagle.gguf"
    path.write_bytes(gguf("eagle3"))
    assert open_model(path, takes="draft").header.arch == "eagle3"


def test_bytes_that_say_nothing_are_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(GgufError, match="not a GGUF file"):
        open_model(path)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 9, 15, 40])
def test_any_cut_start_is_judged_without_an_error(length: int) -> None:
    for data, _ in OTHERS.values():
        if data:
            key = kind_of_start(data[:length], length)
            assert not key or other_file(key).next
