"""An architecture is one record: nothing else in the planner or the catalog asks for it by its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmstack.catalog.shape import architectures, synthesize
from llmstack.plan import architectures as records
from llmstack.plan.architectures import ARCHITECTURES, UNCHECKED, RecurrentBlocks, architecture_of
from llmstack.plan.facts import BlockKind, read_facts
from support.planner import shapes

SOURCE = Path(records.__file__).parents[1]
READERS = sorted(
    path
    for room in ("plan", "catalog")
    for path in (SOURCE / room).rglob("*.py")
    if path.name not in ("architectures.py", "projector.py")  # an image encoder's kinds are clip's names
)


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_other_module_names_an_architecture(path: Path) -> None:
    text = path.read_text()
    tests_by_name = re.compile(r"\barch (?:==|!=|in|not in)\b|\.arch\.startswith|\.arch (?:==|!=|in|not in)\b")
    assert not tests_by_name.findall(text)
    strings = {
        node.value: node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not strings.keys() & ARCHITECTURES.keys()


@pytest.mark.parametrize("record", ARCHITECTURES.values(), ids=lambda record: record.name)
def test_a_record_names_the_file_that_it_was_read_from(record: records.Architecture) -> None:
    assert re.fullmatch(r"src/models/[a-z0-9-]+\.cpp", record.source)
    bounded = {make().arch for make in shapes.BOUNDED}  # these are judged in tests/system/plan, companions as well
    assert record.checked != bool(record.companion or record.name in bounded)


def test_records_say_which_blocks_of_a_recurrent_kind_are_recurrent() -> None:
    for record in ARCHITECTURES.values():
        assert (record.recurrence is None) == (record.recurrent_blocks is RecurrentBlocks.WITHOUT_HEADS), record.name


def test_an_architecture_without_a_record_gets_the_default_one() -> None:
    assert architecture_of("other") is UNCHECKED
    assert not UNCHECKED.checked
    assert "other" not in ARCHITECTURES


def test_every_record_has_a_shape_for_the_oracle() -> None:
    answering = {name for name, record in ARCHITECTURES.items() if not record.companion}
    assert {make().arch for make in (*shapes.ALL, *shapes.ADDED, *shapes.BOUNDED)} == answering


def test_the_catalog_describes_the_architectures_whose_tensors_are_recorded() -> None:
    assert set(architectures()) == {name for name, record in ARCHITECTURES.items() if record.tensors is not None}


@pytest.mark.parametrize(
    ("make", "full"),
    [
        (shapes.muse_glimmer_30b, range(3, 52, 4)),
        (shapes.laguna_33b_a3b, range(0, 40, 4)),
        (shapes.cohere2moe_30b_a3b, range(0, 49, 4)),
        (shapes.granite_8b, range(40)),
    ],
)
def test_the_full_block_of_each_period_is_the_last_or_the_first_as_its_source_says(
    make: Callable[[], shapes.Shape], full: range
) -> None:
    facts = read_facts(make().header())
    assert [il for il, block in enumerate(facts.blocks) if block.kind is BlockKind.FULL] == list(full)


def test_a_prediction_block_of_single_parts_attends_and_has_experts() -> None:
    keys = {"nextn_predict_layers": 1, "block_count": 3, "embedding_length": 512, "vocab_size": 4096}
    keys |= {"context_length": 4096, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 256}
    keys |= {"attention.head_count": 4, "attention.key_length": 128, "attention.value_length": 128}
    each = {"attention.head_count_kv": [2, 0, 2], "feed_forward_length": [0, 256, 256]}
    facts = read_facts(synthesize("mtp", "nemotron_h_moe", {**keys, **each}, "Q8_0"))
    assert [block.kind for block in facts.blocks] == [BlockKind.FULL, BlockKind.NONE, BlockKind.FULL]
    assert [block.experts > 0 for block in facts.blocks] == [False, True, True]
    assert [block.draft for block in facts.blocks] == [False, False, True] and facts.blocks[2].k_width == 256
