"""Which files of a repository are meant: a size of its one model is chosen, one of several models never."""

from __future__ import annotations

import pytest

from llmstack.errors import NotSo
from llmstack.fetch.hub import choose, companion

GIB = 1 << 30
ONE = {"Tiny-Q4_K_M.gguf": 2 * GIB, "Tiny-Q8_0.gguf": 4 * GIB}
BESIDE = {"mmproj-F16.gguf": GIB, "Tiny.imatrix.gguf": 1 << 20, "mtp-Tiny-Q8_0.gguf": GIB, "tiny-lora-f16.gguf": GIB}
TWO = {"Tiny-4B-Q4_K_M.gguf": 2 * GIB, "Tiny-8B-Q4_K_M.gguf": 5 * GIB, "Tiny-8B-Q8_0.gguf": 9 * GIB}


def test_the_common_size_of_the_one_model_is_taken_whatever_lies_beside_it() -> None:
    assert choose("o/r", ONE | BESIDE, "") == ("Tiny-Q4_K_M.gguf",)
    assert choose("o/r", ONE | BESIDE, "q8_0") == ("Tiny-Q8_0.gguf",)


def test_shards_and_folders_of_sizes_are_one_model() -> None:
    files = {f"Q4_K_M/Big-Q4_K_M-0000{n}-of-00002.gguf": GIB for n in (1, 2)} | {"UD-Q2_K_XL/Big-UD-Q2_K_XL.gguf": GIB}
    assert choose("o/r", files, "") == tuple(sorted(files)[:2])


def test_several_models_are_listed_with_their_sizes_and_none_is_guessed() -> None:
    for quant in ("", "Q4_K_M"):
        with pytest.raises(NotSo, match="holds 2 models") as refused:
            choose("o/r", TWO | BESIDE, quant)
        assert "Tiny-4B-Q4_K_M.gguf (2.00 GiB), Tiny-8B-Q4_K_M.gguf (5.00 GiB)" in refused.value.why
        assert "mmproj-F16.gguf (1.00 GiB), a projector" in refused.value.why
        assert "hf:o/r/FILE.gguf" in refused.value.next


def test_a_size_that_only_one_of_them_has_names_it() -> None:
    assert choose("o/r", TWO, "Q8_0") == ("Tiny-8B-Q8_0.gguf",)


def test_a_repository_of_companions_has_no_model() -> None:
    with pytest.raises(NotSo, match=r"has no \.gguf file"):
        choose("o/r", BESIDE, "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mmproj-model-f16.gguf", "a projector"),
        ("sub/model.mmproj-Q8_0.gguf", "a projector"),
        ("imatrix_unsloth.gguf", "an imatrix"),
        ("mtp-Qwen3.8-27B-Q8_0.gguf", "a draft"),
        ("Qwen3-8B-EAGLE3-F16.gguf", "a draft"),
        ("my-lora-f16.gguf", "an adapter"),
        ("ggml-vocab-llama.gguf", "no model"),
        ("Qwen3-8B-MTP-Q4_K_M.gguf", ""),
        ("Explora-7B-Q4_K_M.gguf", ""),
    ],
)
def test_companions_are_known_by_their_names(name: str, kind: str) -> None:
    assert companion(name) == kind
