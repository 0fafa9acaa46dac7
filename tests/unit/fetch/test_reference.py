"""What a person may write for a model."""

from __future__ import annotations

import pytest

from llmstack.errors import BadInput
from llmstack.fetch.model_ref import ReferenceKind, parse


@pytest.mark.parametrize(
    ("text", "kind", "repo", "file", "quant", "revision"),
    [
        ("qwen3.6-27b", ReferenceKind.NAME, "", "", "", "main"),
        ("qwen3.6-27b:UD-Q3_K_XL", ReferenceKind.NAME, "", "", "", "main"),
        ("model.gguf", ReferenceKind.PATH, "", "", "", "main"),
        ("./a/b.gguf", ReferenceKind.PATH, "", "", "", "main"),
        ("~/m/b", ReferenceKind.PATH, "", "", "", "main"),
        ("/abs/b.bin", ReferenceKind.PATH, "", "", "", "main"),
        ("hf:own/repo/f-Q4_K_M.gguf", ReferenceKind.HUB, "own/repo", "f-Q4_K_M.gguf", "", "main"),
        ("hf:own/repo/sub/f.gguf@v1", ReferenceKind.HUB, "own/repo", "sub/f.gguf", "", "v1"),
        ("hf:own/repo:Q4_K_M", ReferenceKind.HUB, "own/repo", "", "Q4_K_M", "main"),
        ("own/repo:Q4_K_M", ReferenceKind.HUB, "own/repo", "", "Q4_K_M", "main"),
        ("https://huggingface.co/own/repo/resolve/main/f.gguf", ReferenceKind.HUB, "own/repo", "f.gguf", "", "main"),
        ("https://huggingface.co/own/repo/blob/abc/s/f.gguf?x=1", ReferenceKind.HUB, "own/repo", "s/f.gguf", "", "abc"),
        ("https://example.org/x/f.gguf", ReferenceKind.URL, "", "f.gguf", "", "main"),
    ],
)
def test_the_form_decides_what_is_meant(
    text: str, kind: ReferenceKind, repo: str, file: str, quant: str, revision: str
) -> None:
    found = parse(text)
    assert (found.kind, found.repo, found.file, found.quant, found.revision) == (kind, repo, file, quant, revision)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\0b",
        "hf:../../etc/passwd",
        "hf:own/repo/../../x.gguf",
        "hf:own/repo/x.bin",
        "hf:own/repo/.hidden.gguf",
        "hf:own/repo/x.gguf@../../y",
        "hf:own",
        "https://user:pw@example.org/f.gguf",
        "https://example.org/",
        "https://example.org/..%2f..%2fx.gguf",
        "https://example.org/x.bin",
        "ftp://example.org/x.gguf",
        "file:///etc/x.gguf",
    ],
)
def test_what_could_leave_a_folder_or_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)
