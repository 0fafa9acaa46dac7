"""docs/proxy.md names every setting there is."""

from __future__ import annotations

from llmstack.catalog.routes import Route, parse
from support.paths import DOCS

TEXT = (DOCS / "proxy.md").read_text(encoding="utf-8")


def test_every_setting_of_a_route_is_documented() -> None:
    table = TEXT.split("## Safety")[0].split("| key |")[1]
    assert not [name for name in Route.__struct_fields__ if f"`{name}`" not in table]


def test_the_example_is_valid() -> None:
    example = TEXT.split("```toml\n")[1].split("```")[0]
    shipped = '[upstreams.local]\nkind = "llama-server"\n'
    choice = parse(shipped, example).choose("claude-opus-9")
    assert choice is not None and choice.targets[0].model == "qwen-3-coder-480b"
