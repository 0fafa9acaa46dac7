"""Texts that we write and read again: units, and what stands in models.toml."""

from __future__ import annotations

import random

from llmstack.catalog import overlay, routes
from llmstack.catalog.overlay import CatalogTexts
from llmstack.client.upstream_file import UpstreamEntry, _block
from llmstack.errors import BadInput
from llmstack.units import escape
from llmstack.units.parse import exec_argv, parse
from support.paths import ROOT

_LETTERS = " %$\"'\\;#{}[]=,.ab1-_~é模\t\r\x01\x7f\u2028"
_SHIPPED = b'[upstreams.local]\nkind = "llama-server"\n[[routes]]\nmatch = "*"\nupstream = "local"\n[profiles.local]\n'
_LINES = [line for line in (ROOT / "models.toml").read_text().splitlines() if line][:400]


def word(dice: random.Random) -> str:
    return "".join(dice.choice(_LETTERS) for _ in range(dice.randrange(12)))


def one(seed: int) -> None:
    dice = random.Random(seed)
    _unit(dice)
    _entry(dice)
    _file(dice)


def _unit(dice: random.Random) -> None:
    argv = ["/bin/x", *(word(dice) for _ in range(dice.randrange(5)))]
    assert exec_argv(escape.exec_line(argv)) == tuple(argv)
    text = word(dice)
    try:
        line = escape.environment_line("NAME", text)
        path = escape.path_word(f"/{text}")
    except BadInput as error:
        assert error.what
        return
    unit = parse(f"[Service]\nEnvironment={line}\nExecStart={escape.exec_line(argv)}\nReadWritePaths={path}\n")
    assert unit.environment == {"NAME": text} and unit.argv == tuple(argv)


def _entry(dice: random.Random) -> None:
    """What `upstream add` writes is what models.toml says then."""
    text = "".join(letter for letter in word(dice) if letter.isprintable()) or "x"
    entry = UpstreamEntry(
        "mine",
        "openai",
        "http://127.0.0.1:9/v1",
        api_key_env=dice.choice((None, "KEY")),
        model=dice.choice((None, text)),
        context=dice.choice((None, 4096)),
        route=dice.choice((None, text)),
    )
    try:
        routing = routes.read(overlay.load(CatalogTexts(_SHIPPED, _block(entry).encode(), "models.toml")))
    except BadInput as error:
        assert error.what
        return
    settings = routing.upstreams["mine"]
    assert (settings.base_url, settings.context, settings.api_key_env) == (
        entry.base_url,
        entry.context,
        entry.api_key_env,
    )
    if entry.route is not None:
        assert any(route.match == entry.route and route.upstream == "mine" for route in routing.routes)


def _file(dice: random.Random) -> None:
    """A file of lines that nearly fit is taken, or refused with a line."""
    lines = [dice.choice(_LINES) for _ in range(dice.randrange(1, 12))]
    if dice.random() < 0.5:
        at = dice.randrange(len(lines))
        cut = dice.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:cut] + word(dice) + lines[at][cut:]
    try:
        routes.read(overlay.load(CatalogTexts(_SHIPPED, "\n".join(lines).encode(), "models.toml")))
    except BadInput as error:
        assert error.what.isprintable(), repr(error.what)
