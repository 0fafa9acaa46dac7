"""What an entry of models.toml may say beside its files: licence, successor, sources, figures, revisions."""

from __future__ import annotations

import pytest

from llmstack.catalog.licenses import is_open, terms_of_its_own
from llmstack.catalog.models import Catalog, Model, Quant, read_models
from llmstack.catalog.overlay import merge, parse
from llmstack.errors import BadInput

ENTRY = '[models.{name}]\nrepo = "x/{name}"\nfile = "{name}-Q8_0.gguf"\n'


def catalog(text: str) -> Catalog:
    return read_models(merge(parse(text, "mine.toml")))


@pytest.mark.parametrize("name", ["apache-2.0", "mit", "MIT", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "openmdw-1.1"])
def test_a_licence_that_asks_for_a_notice_only_needs_no_word(name: str) -> None:
    assert is_open(name) and terms_of_its_own("m", name, "https://x/y") == ""


@pytest.mark.parametrize(
    "name",
    [
        *("gemma", "llama3.3", "cc-by-nc-4.0", "qwen-community-1.0", "lfm1.0", "other"),
        *("nvidia-nemotron-open-model-license", "apache-2.0 with an acceptable use policy"),
    ],
)
def test_any_other_licence_is_named_with_the_page_of_its_terms(name: str) -> None:
    sentence = terms_of_its_own("m", name, "https://x/y")
    assert not is_open(name)
    assert sentence == f"m comes under {name}, which sets conditions of its own: read them at https://x/y"


def test_where_no_licence_is_named_nothing_is_said_of_it() -> None:
    assert terms_of_its_own("m", "", "https://x/y") == "" and not is_open("")


def test_what_is_superseded_sorts_behind_all_others_whatever_its_rank() -> None:
    text = "".join(ENTRY.format(name=name) for name in "abc")
    text += '[models.d]\nrepo = "x/d"\nfile = "d.gguf"\nquality = 1\nsuperseded_by = "a"\n'
    models = catalog(text.replace('repo = "x/b"', 'quality = 2\nrepo = "x/b"')).models
    assert sorted(models, key=lambda name: models[name].order) == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('superseded_by = "nobody"', r"mine\.toml:8: .*there is no model named nobody"),
        ('superseded_by = "b"', r"mine\.toml:8: .*b is superseded itself"),
        ('license_url = "http://x/y"', r"mine\.toml:8: .*is no https:// address"),
        ('facts_from = { sampling = ["a card"] }', r"mine\.toml:8: .*'a card' is no https:// address"),
        ('facts_from = { moods = ["https://x/y"] }', r"mine\.toml:8: unknown key models\.b\.facts_from\.moods"),
        ('scores = [{ name = "S", value = 1.0, source = "x" }]', r"mine\.toml:8: .*is no https:// address"),
        ('mmproj_sha256 = "12"', r"mine\.toml:8: .*mmproj_sha256 must be 64 hexadecimal digits"),
    ],
)
def test_a_mistake_in_them_is_named_with_its_line(line: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        catalog(ENTRY.format(name="a") + "\n" + ENTRY.format(name="b") + line + "\n")


def test_a_size_in_another_repository_is_not_looked_for_at_the_models_commit() -> None:
    model = Model(repo="a/b", revision="1" * 40)
    assert model.revision_of(Quant(file="b.gguf")) == "1" * 40
    assert model.revision_of(Quant(file="b.gguf", repo="c/d")) == "main"
    assert model.revision_of(Quant(file="b.gguf", repo="c/d", revision="2" * 40)) == "2" * 40


def test_the_pages_of_an_entry_are_listed_once() -> None:
    text = ENTRY.format(name="a") + 'sources = ["https://x/1"]\n'
    text += 'scores = [{ name = "S", value = 1.0, source = "https://x/2" }]\n'
    text += 'facts_from = { files = ["https://x/1", "https://x/3"], license = ["https://x/2"] }\n'
    assert catalog(text).models["a"].pages() == ("https://x/1", "https://x/3", "https://x/2")
