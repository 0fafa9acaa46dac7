"""A model's smaller sibling in the catalog: what its table must say, and which of its files `models remove` deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.catalog.models import read_models
from llmstack.catalog.overlay import merge, parse
from llmstack.catalog.shape import OVERHEAD, describe_drafter
from llmstack.deploy.model_goal import with_drafter
from llmstack.errors import BadInput
from llmstack.fetch.find_local import drafter_of, own_path, read_catalog
from llmstack.fetch.inventory import stored_files
from llmstack.fetch.pull import pull_file
from llmstack.paths import Home
from llmstack.plan import Goal
from support.hub import HubServer
from support.model_bytes import model_bytes
from support.paths import CATALOG
from support.planner import companions

SHAPE = """
[models.{name}.drafter.shape]
block_count = 2
embedding_length = 64
feed_forward_length = 64
vocab_size = 300
context_length = 4096
"attention.head_count" = 2
"attention.head_count_kv" = 1
"attention.key_length" = 32
"attention.value_length" = 32
"""
ENTRY = """
[models.{name}]
repo = "maker/tiny"
file = "{file}"

[models.{name}.drafter]
repo = "maker/small"
file = "mmproj-F16.gguf"
sha256 = "{sha}"
arch = "qwen2"
"""


@pytest.fixture
def two(home: Home, hub: HubServer) -> Home:
    """Two models with the same small sibling; the hub serves it under the name of a file that it has."""
    digest = hub.digest("mmproj-F16.gguf")
    parts = [
        ENTRY.format(name=name, file=file, sha=digest) + SHAPE.format(name=name)
        for name, file in (("one", "Tiny-Q4_K_M.gguf"), ("other", "Tiny-Q8_0.gguf"))
    ]
    home.catalog.write_text("".join(parts))
    return home


def test_it_is_pulled_checked_and_found_again(two: Home, hub: HubServer) -> None:
    source = drafter_of(read_catalog(two).models["one"])
    assert source is not None
    path = pull_file(two, source, "one")
    assert path == own_path(two, source) == two.models / "maker/small/mmproj-F16.gguf"
    assert path.read_bytes() == hub.files["mmproj-F16.gguf"]


def test_before_it_is_here_the_catalog_describes_it_and_offline_it_is_left_out(two: Home) -> None:
    entry = read_catalog(two).models["one"]
    draft = with_drafter(two, Goal(), entry).draft
    assert draft is not None
    assert (draft.n_layer, draft.n_vocab) == (2, 300)
    assert draft.path == str(two.models / "maker/small/mmproj-F16.gguf")
    assert with_drafter(two, Goal(), entry, offline=True).draft is None
    assert with_drafter(two, Goal(), None).draft is None


def test_one_without_dimensions_is_planned_by_its_header_on_the_hub(two: Home, hub: HubServer, tmp_path: Path) -> None:
    whole = companions.eagle3().write(tmp_path).read_bytes()
    hub.files["eagle3-Q8_0.gguf"] = whole
    named = ENTRY.format(name="one", file="Tiny-Q8_0.gguf", sha=hub.digest("eagle3-Q8_0.gguf"))
    named = named.replace('arch = "qwen2"\n', "").replace("mmproj-F16.gguf", "eagle3-Q8_0.gguf")
    two.catalog.write_text(named)
    entry = read_catalog(two).models["one"]
    draft = with_drafter(two, Goal(), entry).draft
    assert draft is not None and draft.companion is not None and draft.companion.spec_type == "draft-eagle3"
    assert draft.path == str(two.models / "maker/small/eagle3-Q8_0.gguf")
    assert with_drafter(two, Goal(), entry, offline=True).draft is None
    hub.files["eagle3-Q8_0.gguf"] = whole[: 8 << 20]
    assert with_drafter(two, Goal(), entry).draft is None  # nothing is refused for the lack of it


def test_a_pinned_file_that_is_not_there_is_refused(two: Home) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        with_drafter(two, Goal(pins={"md": "/nowhere/small.gguf"}), None)


def test_removing_a_model_keeps_a_sibling_that_another_still_needs(two: Home) -> None:
    names = ("tiny/Tiny-Q4_K_M", "tiny/Tiny-Q8_0", "small/mmproj-F16")
    places = [two.models / "maker" / f"{name}.gguf" for name in names]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(model_bytes(1000))
    assert stored_files(two, "one") == [places[0]]
    places[1].unlink()
    assert stored_files(two, "one") == sorted([places[0], places[2]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('repo = "maker/small"', 'repo = "small"', r"mine.toml:7: models.one.drafter.repo: 'small' is not OWNER/NAME"),
        (
            'file = "mmproj-F16.gguf"',
            'file = "../x.gguf"',
            r"mine.toml:8: models.one.drafter: '../x.gguf' is not a pla",
        ),
        ('sha256 = "0"', 'sha256 = "12"', r"mine.toml:9: models.one.drafter: sha256 must be 64"),
        ('arch = "qwen2"', 'arch = "qwen2"\ntype = "x"', r"mine.toml:11: unknown key models.one.drafter.type"),
        ('arch = "qwen2"\n', "", r"mine.toml:6: models.one.drafter lacks arch"),
        ("vocab_size = 300", "vocab_size = 500", r"mine.toml:16: models.one.drafter.shape.vocab_size: 500 is too far"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_key(old: str, new: str, message: str) -> None:
    text = ENTRY.format(name="one", file="a-Q8_0.gguf", sha="0") + SHAPE.format(name="one")
    text = text.replace('sha256 = "0"', f'sha256 = "{"0" * 64}"') if old != 'sha256 = "0"' else text
    text += "\n[models.one.shape]\nvocab_size = 299\n"
    assert old in text
    with pytest.raises(BadInput, match=message):
        read_models(merge(parse(text.replace(old, new), "mine.toml")))


def test_the_shipped_ones_come_to_their_published_size() -> None:
    models = read_models(merge(parse(CATALOG.read_bytes(), CATALOG.name))).models
    second = {name: model.drafter for name, model in models.items() if model.drafter}
    companions = {name for name, drafter in second.items() if not drafter.arch}
    prediction_heads = {"gemma-4-31b", "gemma-4-26b-a4b", "gemma-4-26b-qat"}
    assert companions == prediction_heads | {"muse-glimmer-30b", "gpt-oss-120b", "gpt-oss-20b"}
    assert set(second) - companions == {"qwen2.5-coder-7b", "qwen2.5-coder-14b"}
    for name in set(second) - companions:
        drafter = second[name]
        assert drafter.sha256 and models[name].arch == drafter.arch
        plain = sum(tensor.size for tensor in describe_drafter(drafter).tensors)
        assert plain + OVERHEAD == pytest.approx(drafter.size, rel=0.01)
