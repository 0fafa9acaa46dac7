"""An architecture is one record: nothing else in the planner or the catalog asks for it by its name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from llmstack.catalog.shape import architectures
from llmstack.plan import architectures as records
from llmstack.plan.architectures import ARCHITECTURES, UNCHECKED, RecurrentBlocks, architecture_of
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
    assert record.checked or record.companion  # these are judged in tests/system/plan/test_companions.py


def test_records_say_which_blocks_of_a_recurrent_kind_are_recurrent() -> None:
    for record in ARCHITECTURES.values():
        assert (record.recurrence is None) == (record.recurrent_blocks is RecurrentBlocks.WITHOUT_HEADS), record.name


def test_an_architecture_without_a_record_gets_the_default_one() -> None:
    assert architecture_of("other") is UNCHECKED
    assert not UNCHECKED.checked
    assert "other" not in ARCHITECTURES


def test_every_record_has_a_shape_for_the_oracle() -> None:
    answering = {name for name, record in ARCHITECTURES.items() if not record.companion}
    assert {make().arch for make in (*shapes.ALL, *shapes.ADDED)} == answering


def test_the_catalog_describes_the_architectures_whose_tensors_are_recorded() -> None:
    assert set(architectures()) == {name for name, record in ARCHITECTURES.items() if record.tensors is not None}
