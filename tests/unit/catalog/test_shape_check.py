"""The catalog's dimensions beside a file's header."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.catalog.models import Model, Quant
from llmstack.catalog.shape import synthesize
from llmstack.catalog.shape_check import difference_sentence, differences
from llmstack.gguf import GgufHeader
from llmstack.gguf.header import HeaderValue

SHAPE = {
    "block_count": 4,
    "embedding_length": 512,
    "vocab_size": 4096,
    "context_length": 8192,
    "feed_forward_length": 1024,
    "attention.head_count": 4,
    "attention.head_count_kv": [2, 2, 2, 2],
    "attention.key_length": 128,
    "attention.value_length": 128,
    "tied": True,
}
MODEL = Model(repo="a/b", quants={"Q8_0": Quant(file="b-Q8_0.gguf")}, arch="qwen3", shape=SHAPE)


def header(**changes: HeaderValue) -> GgufHeader:
    made = synthesize("b", "qwen3", SHAPE, "Q8_0")
    return replace(made, values={**made.values, **{f"qwen3.{key}": value for key, value in changes.items()}})


def test_the_same_dimensions_are_no_difference_however_they_are_written() -> None:
    assert differences(MODEL, header()) == ()
    assert differences(MODEL, header(**{"attention.head_count_kv": 2})) == ()  # one number is for every block
    assert differences(replace_shape(feed_forward_length=[1024] * 4), header()) == ()


def test_what_a_file_leaves_out_tells_nothing() -> None:
    values = {key: value for key, value in header().values.items() if not key.endswith("value_length")}
    assert differences(MODEL, replace(header(), values=values)) == ()
    assert differences(Model(repo="a/b", arch="other"), header()) == (), "no dimensions, nothing to compare"


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"block_count": 5}, "block_count is 5, not 4"),
        ({"attention.head_count_kv": (2, 2, 2, 1)}, "attention.head_count_kv is 4 values of 2, 1, not 4 values of 2"),
        ({"context_length": 4096}, "context_length is 4096, not 8192"),
    ],
)
def test_each_difference_is_named_with_both_values(changes: dict[str, HeaderValue], phrase: str) -> None:
    assert differences(MODEL, header(**changes)) == (phrase,)


def test_the_vocabulary_the_output_matrix_and_the_architecture_are_compared_too() -> None:
    untied = synthesize("b", "qwen3", {**SHAPE, "tied": False, "vocab_size": 8192}, "Q8_0")
    assert differences(MODEL, untied) == ("vocab_size is 8192, not 4096", "tied is False, not True")
    assert differences(MODEL, synthesize("b", "qwen2", SHAPE, "Q8_0")) == ("its architecture is qwen2, not qwen3",)


def test_a_long_list_is_cut_and_counted() -> None:
    sentence = difference_sentence("b:Q8_0", [f"key{n} is 1, not 2" for n in range(6)])
    assert sentence.startswith("the catalog's dimensions of b:Q8_0 are not those of its file: key0 is 1")
    assert sentence.endswith("and 2 more") and "key4" not in sentence
    assert difference_sentence("b", ()) == ""


def replace_shape(**changes: object) -> Model:
    return Model(repo="a/b", quants=MODEL.quants, arch="qwen3", shape={**SHAPE, **changes})
