"""models.toml: upstreams and routes, overlaid, inherited, checked."""

from __future__ import annotations

import pytest

from llmstack.catalog.routes import parse
from llmstack.errors import BadInput
from llmstack.paths import resource

SHIPPED = '[upstreams.local]\nkind = "llama-server"\n[[routes]]\nmatch = "*"\nupstream = "local"\n'
CLOUD = '[upstreams.cloud]\nkind = "openai"\nbase_url = "https://c/v1"\ntimeout_s = 60\nextra_headers = { a = "1", b = "2" }\n'  # noqa: E501


def test_the_shipped_catalog_sends_everything_to_the_local_server() -> None:
    choice = parse(resource("models.toml").read_text()).choose("anything")
    assert choice is not None
    assert [(t.name, t.kind, t.model) for t in choice.targets] == [("local", "llama-server", None)]


def test_the_user_s_routes_come_first_and_the_first_match_wins() -> None:
    user = (
        CLOUD
        + '[[routes]]\nmatch = "claude-opus-*"\nupstream = "cloud"\n[[routes]]\nmatch = "claude-*"\nupstream = "local"\n'  # noqa: E501
    )
    routing = parse(SHIPPED, user)
    names = [routing.choose(model).targets[0].name for model in ("claude-opus-5", "claude-haiku", "x")]  # type: ignore[union-attr]
    assert names == ["cloud", "local", "local"]


def test_a_route_inherits_its_upstream_and_overrides_what_it_names() -> None:
    user = (
        CLOUD + '[[routes]]\nmatch = "q"\nupstream = "cloud"\nmodel = "Q"\ntimeout_s = 5\nextra_headers = { b = "3" }\n'
    )
    target = parse(SHIPPED, user).choose("q").targets[0]  # type: ignore[union-attr]
    assert (target.model, target.timeout_s, dict(target.extra_headers)) == ("Q", 5.0, {"a": "1", "b": "3"})


def test_tables_merge_by_name() -> None:
    target = parse(SHIPPED, "[upstreams.local]\nkeepalive_s = 3\n").choose("x").targets[0]  # type: ignore[union-attr]
    assert (target.kind, target.keepalive_s) == ("llama-server", 3.0)


def test_a_fallback_is_opt_in() -> None:
    plain = parse(SHIPPED, CLOUD).choose("x")
    chain = parse(SHIPPED, CLOUD + '[[routes]]\nmatch = "*"\nupstream = "local"\nfallback = ["cloud"]\n').choose("x")
    assert plain is not None and chain is not None
    assert len(plain.targets) == 1 and [t.name for t in chain.targets] == ["local", "cloud"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[upstreams.x]\nknid = 1\n", "knid"),
        ("[upstream.x]\n", "upstream"),
        ('[upstreams.x]\nkind = "olama"\n', "olama"),
        ('[upstreams.x]\nbase_url = "http://x"\n', "kind"),
        ('[upstreams.x]\nkind = "openai"\n', "base_url"),
        ('[upstreams.x]\nkind = "openai"\nbase_url = "ftp://x"\n', "http"),
        ('[[routes]]\nmatch = "*"\nupstream = "nowhere"\n', "nowhere"),
        ('[[routes]]\nupstream = "local"\n', "match"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\nfalback = []\n', "falback"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\nfallback = ["ghost"]\n', "ghost"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\nfallback_on = ["rain"]\n', "rain"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\ntimeout_s = "long"\n', "timeout_s"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\nthinking_budget = { title = 1 }\n', "question, tools, side"),
        ('[upstreams.x]\nkind = "openai"\nbase_url = "http://x"\nthinking_budget.tools = -1\n', "at least 0"),
        ("routes = 3\n", "routes"),
        ("[upstreams\n", "models.toml:1: expected"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(SHIPPED, text)
    assert named in f"{caught.value.what} {caught.value.why} {caught.value.next}"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[upstreams.x]\n\nkind = "olama"\n', "your models.toml:3: upstreams.x.kind"),
        ('offline = false\n[upstreams.x]\nbase_url = "http://x"\n', "your models.toml:2: upstreams.x"),
        ('\n[[routes]]\nmatch = "*"\nupstream = "nowhere"\n', "your models.toml:4: routes[1].upstream"),
        ('[[routes]]\nmatch = "*"\nupstream = "local"\n\nfalback = []\n', "your models.toml:5: unknown key"),
        ("offline = 3\n", "your models.toml:1: offline"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(text: str, where: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(SHIPPED, text)
    assert caught.value.what.startswith(where)
