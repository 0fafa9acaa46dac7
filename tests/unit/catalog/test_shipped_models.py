"""The shipped catalog, entry by entry: names, sizes, hashes, license, dimensions, plans on common cards."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from llmstack.catalog.models import Catalog, Model, Reasoning, is_file, is_repo, quant_of, read_models, shards
from llmstack.catalog.overlay import merge, parse
from llmstack.catalog.quants import base_name
from llmstack.catalog.shape import OVERHEAD, describe, parameters, synthesize
from llmstack.errors import BadInput
from llmstack.fetch.cards import CARDS, cards, machine
from llmstack.fetch.survey import look
from llmstack.plan import read_facts
from llmstack.render.catalog_page import cards_markdown, facts_markdown, with_table
from support import paths

CATALOG: Catalog = read_models(merge(parse(paths.CATALOG.read_bytes(), paths.CATALOG.name)))
MODELS = list(CATALOG.models.items())
SHAPED = [(name, model) for name, model in MODELS if model.shape]
OPEN = {"apache-2.0", "mit", "openmdw-1.1"}
WINDOWS = dict.fromkeys(("devstral-small-2", "north-mini-code", "nemotron-3.5-30b"), 262144)  # the file carries more
KINDS = {"files", "license", "context", "reasoning"}  # what every entry has a page for
PLAIN = {"Q4_K_M", "Q8_0", "Q6_K", "MXFP4", "Q4_0", "Q5_K_M"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans are made once per test run."""
    return tmp_path_factory.mktemp("survey")


def named(value: object) -> str:
    return value if isinstance(value, str) else ""


def test_there_are_at_least_fifteen_from_1b_to_120b_of_every_kind() -> None:
    assert len(MODELS) >= 15
    totals = [model.total or 0 for _, model in MODELS]
    assert min(totals) < 2 and max(totals) > 115
    kinds = {model.arch for _, model in MODELS}
    assert {
        "qwen3moe",
        "qwen35",
        "qwen35moe",
        "gpt-oss",
        "mistral3",
        "glm4moe",
        "gemma4",
        "granitehybrid",
        "nemotron_h_moe",
        "granite",
        "laguna",
        "muse-glimmer",
        "cohere2moe",
    } <= kinds


def test_quality_ranks_are_an_order_and_what_is_superseded_comes_behind_all_others() -> None:
    ranks = [model.quality or 0 for _, model in MODELS]
    assert ranks == list(range(1, len(MODELS) + 1)), "the file has them in this order"
    older = [model.quality or 0 for _, model in MODELS if model.superseded_by]
    assert older and older == ranks[-len(older) :]
    assert sorted(MODELS, key=lambda item: item[1].order) == MODELS


@pytest.mark.parametrize(("name", "model"), MODELS, ids=named)
def test_an_entry_is_complete(name: str, model: Model) -> None:
    assert model.summary and model.license and model.arch and model.reasoning is not None
    assert model.license in OPEN or model.license_url, "terms of its own: where are they?"
    assert date.fromisoformat(model.checked) >= date(2026, 11, 1)
    carried = model.shape.get("context_length", model.context)
    assert model.context == WINDOWS.get(name, carried) <= carried
    assert next(iter(model.sizes())) == model.quant
    if model.sampling_thinking.flags():
        assert model.reasoning is Reasoning.TEMPLATE


@pytest.mark.parametrize(("name", "model"), MODELS, ids=named)
def test_each_fact_of_an_entry_has_the_page_that_it_was_read_from(name: str, model: Model) -> None:
    pages = model.facts_from
    assert {kind for kind, _ in pages.items()} >= KINDS
    assert bool(pages.shape) == bool(model.shape)
    assert bool(pages.sampling) == bool(model.sampling.flags())
    assert bool(pages.tools) == (model.tools is not None)
    assert bool(pages.parts) >= bool(model.drafter or model.mmproj_size)
    for page in model.pages():
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]+/\S*", page), page
    for quant in model.sizes().values():
        tree = f"{quant.repo or model.repo}/tree/{model.revision_of(quant)}"
        if quant.size and quant.digests and not quant.revision:
            assert any(page.endswith(tree) for page in pages.files), tree


def test_a_figure_says_which_page_states_it_and_ranks_who_has_one() -> None:
    assert sum(bool(model.scores) for _, model in MODELS) >= 15
    verified = {
        name: score.value
        for name, model in MODELS
        for score in model.scores
        if score.name == "SWE-bench Verified" and not score.note and not model.superseded_by
    }
    assert list(verified.values()) == sorted(verified.values(), reverse=True)


def test_what_is_superseded_names_one_that_is_better_and_not_much_larger() -> None:
    pairs = {name: model.superseded_by for name, model in MODELS if model.superseded_by}
    assert pairs["qwen3.6-27b"] == "qwen3.8-27b" and pairs["nemotron-3-nano"] == "nemotron-3.5-30b"
    for name, newer in pairs.items():
        old, new = CATALOG.models[name], CATALOG.models[newer]
        assert (old.quality or 0) > (new.quality or 0)
        assert (new.total or 0) < 1.2 * (old.total or 0)
        assert (new.active or new.total or 0) < 1.2 * (old.active or old.total or 0)


@pytest.mark.parametrize(("name", "model"), MODELS, ids=named)
def test_files_are_named_as_their_size_says(name: str, model: Model) -> None:
    for key, quant in model.sizes().items():
        assert is_repo(quant.repo or model.repo)
        for file in quant.names:
            assert is_file(file)
            assert base_name(quant_of(file)) == base_name(key)
        if len(quant.names) > 1:
            assert shards(quant.names[0]) == quant.names
        assert len(quant.digests) in (0, len(quant.names))
        assert not (quant.size and quant.about_gb), "an exact size needs no rounded one"


def test_no_two_files_claim_the_same_digest_and_most_sizes_are_exact() -> None:
    sizes = [quant for _, model in MODELS for quant in model.sizes().values()]
    digests = [digest for quant in sizes for digest in quant.digests]
    assert len(digests) == len(set(digests))
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
    exact = [quant for quant in sizes if quant.size and quant.digests]
    assert len(exact) >= 0.8 * len(sizes)
    for _, model in MODELS:
        quant = model.sizes()[model.quant]
        assert quant.size, "the recommended size is exact"


@pytest.mark.parametrize(("name", "model"), SHAPED, ids=named)
def test_dimensions_come_to_the_published_number_of_parameters(name: str, model: Model) -> None:
    assert model.total is not None
    assert parameters(model.arch, model.shape) / 1e9 == pytest.approx(model.total, rel=0.01)


@pytest.mark.parametrize(("name", "model"), SHAPED, ids=named)
def test_a_plain_size_comes_to_the_published_bytes(name: str, model: Model) -> None:
    """Independent of the published size: dimensions and llama.cpp's own mix give it within 3.5 %."""
    for key, quant in model.sizes().items():
        if key in PLAIN and quant.size:
            computed = synthesize(name, model.arch, model.shape, key).file_bytes
            assert computed == pytest.approx(quant.size, rel=0.035), key


@pytest.mark.parametrize(("name", "model"), SHAPED, ids=named)
def test_with_a_published_size_the_tensors_sum_up_to_it(name: str, model: Model) -> None:
    for key, quant in model.sizes().items():
        if quant.bytes:
            header = describe(name, model, key)
            total = sum(tensor.size for tensor in header.tensors) + OVERHEAD
            assert total == pytest.approx(quant.bytes, rel=0.02), key


@pytest.mark.parametrize(("name", "model"), SHAPED, ids=named)
def test_every_size_is_a_model_to_the_planner(name: str, model: Model) -> None:
    for key in model.sizes():
        facts = read_facts(describe(name, model, key))
        assert facts.arch == model.arch


@pytest.mark.parametrize(("name", "model"), SHAPED, ids=named)
def test_every_other_size_plans_too(name: str, model: Model, kept: Path) -> None:
    for quant in model.sizes():
        row = look(name, model, quant, machine(24), kept)
        assert row.size_bytes > 0, row.reason
        assert row.decode_tps > 0 if row.fits else row.reason, quant


@pytest.mark.timeout(900)  # each model on each machine: three minutes of a busy processor
def test_the_tables_in_the_documentation_are_what_the_command_prints(kept: Path) -> None:
    """After a change of the catalog or the planner: llmstack models cards --into docs/models.md"""
    page = (paths.DOCS / "models.md").read_text()
    cells = cards(CATALOG, kept)
    for table in (
        cards_markdown(cells, CATALOG.models, {gib: card.name for gib, card in CARDS.items()}),
        facts_markdown(CATALOG.models),
    ):
        assert table in page
        assert with_table(page, table) == page


@pytest.mark.parametrize(("gib", "fast"), [(8, 5), (12, 8), (16, 8), (24, 12), (48, 15), (80, 20)])
def test_a_card_has_models_that_answer_at_reading_speed(gib: int, fast: int, kept: Path) -> None:
    rows = [look(name, model, model.quant, machine(gib), kept) for name, model in SHAPED]
    assert sum(row.decode_tps >= 20 for row in rows) >= fast


def test_names_are_found_whatever_their_case_and_near_ones_are_suggested() -> None:
    found = CATALOG.find("Qwen3.6-27B:q4_k_m")
    assert found is not None and (found[0], found[2]) == ("qwen3.6-27b", "Q4_K_M")
    assert CATALOG.find("nothing") is None
    assert "qwen3.6-27b" in CATALOG.near("qwen3.6-27")
    with pytest.raises(BadInput, match="has no size Q1"):
        CATALOG.find("qwen3.6-27b:Q1")


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("Qwen3.6-35B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("qwen2.5-coder-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Q4_K_M/GLM-4.5-Air-Q4_K_M-00001-of-00002.gguf", "Q4_K_M"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("model.IQ3_XXS.gguf", "IQ3_XXS"),
        ("x-BF16.gguf", "BF16"),
        ("plain.gguf", ""),
    ],
)
def test_the_size_is_read_from_a_files_name(file: str, quant: str) -> None:
    assert quant_of(file) == quant


def test_a_shape_that_lacks_a_value_says_which() -> None:
    with pytest.raises(BadInput, match="the shape lacks block_count"):
        synthesize("x", "qwen3", {"embedding_length": 1, "vocab_size": 1, "context_length": 1}, "Q4_K_M")
    with pytest.raises(BadInput, match="cannot describe the architecture"):
        synthesize("x", "nothing", {}, "Q4_K_M")
