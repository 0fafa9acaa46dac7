"""The demo model as a file: deterministic, small, readable, and with the context the stack needs."""

from __future__ import annotations

import hashlib

import pytest

from llmstack.demo import SENTENCE, build_model
from llmstack.demo.tokenizer import ALPHABET, spell, train
from llmstack.gguf import read_header

TEXT = "def main() -> int:\n    return 0\n\n\nThe demo model says nothing of use.\n" * 40


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@pytest.fixture(scope="module")
def model() -> bytes:
    return b"".join(build_model(TEXT))


def test_the_same_text_gives_the_same_bytes(model: bytes) -> None:
    again = b"".join(build_model(TEXT))
    assert hashlib.sha256(again).digest() == hashlib.sha256(model).digest()


def test_the_file_is_under_20_mb(model: bytes) -> None:
    assert len(model) < 20_000_000


def test_our_own_reader_accepts_it_and_it_has_room_for_64k(model: bytes) -> None:
    header = read_header(_Bytes(model), len(model))
    assert header.arch == "llama"
    assert header.values["llama.context_length"] >= 65536


def test_the_template_takes_tools_and_calls(model: bytes) -> None:
    header = read_header(_Bytes(model), len(model))
    template = header.chat_template or ""
    for part in ("tools", "tool_calls", "<tool_call>", "<|im_start|>", "add_generation_prompt"):
        assert part in template


def test_every_byte_can_be_spelled() -> None:
    assert sorted(ALPHABET) == list(range(256))
    assert len(set(ALPHABET.values())) == 256
    assert len(spell("é\n")) == 3


def test_whole_words_become_single_tokens() -> None:
    tokenizer = train(TEXT, merges=60, whole_words=(" llmstack", "The"), control=("<|im_end|>",))
    assert tokenizer.tokens[tokenizer.id_of(" llmstack")] == spell(" llmstack")
    assert tokenizer.tokens[tokenizer.id_of("<|im_end|>")] == "<|im_end|>"


def test_merges_join_tokens_that_exist() -> None:
    tokenizer = train(TEXT, merges=100)
    known = set(ALPHABET.values())
    for merge in tokenizer.merges:
        left, right = merge.split(" ")
        assert left in known and right in known
        known.add(left + right)


def test_the_sentence_says_that_its_words_mean_nothing() -> None:
    assert "mean nothing" in SENTENCE


def test_the_sentence_names_no_program_for_nobody_knows_how_it_is_called() -> None:
    assert "up MODEL" in SENTENCE and "llmstack" not in SENTENCE
