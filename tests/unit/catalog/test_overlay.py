"""models.toml: the user's file over the shipped one, and errors that name file, line and key."""

from __future__ import annotations

import pytest

from llmstack.catalog.models import read_models
from llmstack.catalog.overlay import Overlay, merge, parse
from llmstack.errors import BadInput

SHIPPED = """\
[models.a]
repo = "x/a"
file = "a-Q4_K_M.gguf"
context = 100
sampling = { temperature = 1.0, top_k = 20 }

[upstreams.local]
kind = "llama-server"

[[routes]]
match = "*"
upstream = "local"
"""


def overlaid(user: str) -> Overlay:
    return merge(parse(SHIPPED, "shipped.toml"), parse(user, "mine.toml"))


def test_tables_merge_by_name_and_key() -> None:
    overlay = overlaid(
        '[models.a]\ncontext = 50\n[models.a.sampling]\ntop_k = 40\n[models.b]\nrepo="x/b"\nfile="b.gguf"\n'
    )
    models = read_models(overlay).models
    assert (models["a"].context, models["a"].repo) == (50, "x/a")
    assert (models["a"].sampling.temperature, models["a"].sampling.top_k) == (1.0, 40)
    assert list(models) == ["a", "b"]


def test_the_users_routes_come_first_and_keep_their_lines() -> None:
    overlay = overlaid(
        '# first\n[[routes]]\nmatch = "gpt-*"\nupstream = "local"\n[[routes]]\nmatch = "o*"\nupstream = "local"\n'
    )
    assert [route["match"] for route in overlay.data["routes"]] == ["gpt-*", "o*", "*"]
    assert overlay.where(("routes", 1, "match")) == "mine.toml:6"
    assert overlay.where(("routes", 2, "upstream")) == "shipped.toml:12"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("[models.a]\n\nsamplings = 3\n", r"mine\.toml:3: unknown key models\.a\.samplings"),
        ("[models.a.sampling]\n# c\ntop_q = 3\n", r"mine\.toml:3: unknown key models\.a\.sampling\.top_q"),
        ('[models.a]\nsampling = { top_k = "x" }\n', r"mine\.toml:2: models\.a\.sampling\.top_k: expected `int"),
        ("[models.a]\ncontext = 'long'\n", r"mine\.toml:2: models\.a\.context: expected"),
        ("[models.b]\nrepo = 'x/b'\n", r"mine\.toml:1: models\.b lacks file"),
        ("[models.b]\nfile = 'b.gguf'\n", r"mine\.toml:1: models\.b lacks repo"),
        ("\n[models.b]\nfile = '../b.gguf'\nrepo = 'x/b'\n", r"mine\.toml:2: .*is not a plain file name"),
        ("[models.b]\nrepo = '../x'\nfile = 'b.gguf'\n", r"mine\.toml:2: .*is not OWNER/NAME"),
        ("[models.b]\nrepo='x/b'\nfile='b.gguf'\nsha256='zz'\n", r"mine\.toml:4: .*64 hexadecimal digits"),
        ("[models.b]\nrepo='x/b'\n[models.b.quants.Q4]\nsize=3\n", r"mine\.toml:3: models\.b\.quants\.Q4 lacks file"),
        ("[models.'b c']\nrepo='x/b'\nfile='b.gguf'\n", r"mine\.toml:1: the model name 'b c' may hold"),
        ("[models.a]\nquant = 'Q9'\n[models.a.quants.Q4]\nfile='a.gguf'\n", r"mine\.toml:2: .*there is no Q9"),
        ("[modles.a]\nx=1\n", r"mine\.toml:1: unknown key modles"),
        ("\n\n[models\n", r"mine\.toml:3: "),
        ("models = 3\n", r"mine\.toml:1: models must be a table"),
        ("[models]\na = 3\n", r"mine\.toml:2: models\.a must be a table"),
        ("[models.a]\ntools = 'telepathy'\n", r"mine\.toml:2: models\.a\.tools: invalid enum value"),
        ("[routes]\nmatch = 'x'\n", r"mine\.toml:1: routes must be written as \[\[routes\]\]"),
    ],
)
def test_a_mistake_is_named_with_its_line(user: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_models(overlaid(user))


def test_lines_are_right_behind_values_of_several_lines() -> None:
    text = '[models.b]\nrepo = "x/b"\nfiles = [\n  "a-00001-of-00002.gguf", # ] }\n'
    text += '  "a-00002-of-00002.gguf",\n]\nsummary = """\n[models.c]\nx = 1\n"""\n'
    text += "wrong = 1\n"
    with pytest.raises(BadInput, match=r"mine\.toml:11: unknown key models\.b\.wrong"):
        read_models(overlaid(text))


def test_without_a_file_of_ones_own_the_shipped_one_stands() -> None:
    overlay = merge(parse(SHIPPED, "shipped.toml"))
    assert overlay.where(("models", "a", "context")) == "shipped.toml:4"
    assert overlay.table("upstreams", "local") == {"kind": "llama-server"}


def test_the_offline_switch_of_the_proxy_does_not_disturb_the_models() -> None:
    overlay = overlaid("offline = true\n")
    assert overlay.data["offline"] is True
    assert list(read_models(overlay).models) == ["a"]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadInput, match="not UTF-8"):
        parse(b"\xff\xfe", "mine.toml")
