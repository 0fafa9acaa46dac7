"""Upstreams in the user's models.toml: added, replaced, refused; everything else stays byte for byte."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.client.upstream_add import UpstreamRequest, add
from llmstack.client.upstream_file import UpstreamEntry, check, remove, set_offline
from llmstack.client.upstream_file import add as write
from llmstack.errors import BadInput
from llmstack.paths import Home

MINE = (
    '# my own words\n[models.mine]\nrepo = "a/b"   # kept\n\n[[routes]]\nmatch = "claude-opus-*"\nupstream = "local"\n'
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "k").make()


def never(question: str, *, default: str | None = None, secret: bool = False) -> str:
    raise AssertionError(f"it asked: {question}")


def test_a_block_is_added_behind_what_is_there(home: Home) -> None:
    home.catalog.write_text(MINE)
    write(
        home,
        UpstreamEntry("far", kind="openai", base_url="https://far.example/v1", model="m-1", route="claude-haiku-*"),
    )
    text = home.catalog.read_text()
    assert text.startswith(MINE)
    routing = check(home, text)
    choice = routing.choose("claude-haiku-4-5")
    assert choice is not None and (choice.targets[0].name, choice.targets[0].model) == ("far", "m-1")
    named = routing.choose("far/any/model")
    assert named is not None and named.targets[0].model == "any/model"


def test_adding_again_replaces_the_block_alone(home: Home) -> None:
    home.catalog.write_text(MINE)
    write(home, UpstreamEntry("far", kind="openai", base_url="https://far.example/v1"))
    home.catalog.write_text(home.catalog.read_text() + "# the end\n")
    write(home, UpstreamEntry("far", kind="openai", base_url="https://further.example/v1"))
    text = home.catalog.read_text()
    assert text.startswith(MINE) and "# the end\n" in text
    assert text.count("[upstreams.far]") == 1 and "https://far.example" not in text


FAR = UpstreamEntry("far", kind="openai", base_url="https://far.example/v1", model="m", route="claude-opus-*")


class TestAgain:
    """Lines of a person in the block of an upstream, and just below it."""

    @pytest.fixture
    def block(self, home: Home) -> str:
        write(home, replace(FAR, route=None, model=None))
        return home.catalog.read_text()

    def test_a_new_key_changes_nothing_else(self, home: Home, block: str) -> None:
        own = block.replace('v1"\n', 'v1"   # the fast one\ntimeout_s = 900\nextra_headers = { X-A = "1" }\n')
        home.catalog.write_text(own)
        write(home, UpstreamEntry("far", api_key_file="keys/far"))
        lines = home.catalog.read_text().splitlines()
        assert [line for line in lines if line not in own.splitlines()] == ['api_key_file = "keys/far"']
        assert [line for line in own.splitlines() if line not in lines] == []

    def test_what_is_said_anew_replaces_its_value_alone(self, home: Home, block: str) -> None:
        home.catalog.write_text(block.replace('v1"\n', 'v1"   # the fast one\ntimeout_s = 900\n'))
        write(home, UpstreamEntry("far", base_url="https://further.example/v1", context=4096))
        text = home.catalog.read_text()
        assert 'base_url = "https://further.example/v1"   # the fast one\n' in text
        assert "timeout_s = 900" in text and "context = 4096" in text and 'kind = "openai"' in text

    def test_a_line_below_the_block_stays_in_its_table(self, home: Home, block: str) -> None:
        home.catalog.write_text(block + "timeout_s = 77\n\n[models.x]\nrepo = 'a/b'\n")
        write(home, replace(FAR, base_url="https://further.example/v1"))
        routing = check(home, home.catalog.read_text())
        assert routing.upstreams["far"].timeout_s == 77
        assert routing.upstreams["far"].base_url == "https://further.example/v1"
        choice = routing.choose("claude-opus-4")
        assert choice is not None and (choice.targets[0].name, choice.targets[0].model) == ("far", "m")

    def test_a_profile_s_own_keys_and_every_route_stay(self, home: Home) -> None:
        write(home, FAR)
        home.catalog.write_text(home.catalog.read_text().replace("[profiles.far]\n", '[profiles.far]\nhaiku = "h"\n'))
        write(home, UpstreamEntry("far", model="m-2", route="claude-haiku-*"))
        text = home.catalog.read_text()
        assert 'haiku = "h"' in text and 'model = "far/m-2"' in text and text.count("[[routes]]") == 2
        routing = check(home, text)
        for name in ("claude-opus-4", "claude-haiku-4"):
            choice = routing.choose(name)
            assert choice is not None and choice.targets[0].model == "m-2"
        write(home, UpstreamEntry("far", model="m-2", route="claude-haiku-*"))
        assert home.catalog.read_text() == text, "said twice is said once"

    def test_a_key_has_one_place(self, home: Home, block: str) -> None:
        write(home, UpstreamEntry("far", api_key_file="keys/far"))
        write(home, UpstreamEntry("far", api_key_env="FAR_KEY"))
        text = home.catalog.read_text()
        assert "api_key_file" not in text and 'api_key_env = "FAR_KEY"' in text
        add(home, "far", UpstreamRequest(no_key=True, model="m"), never)
        assert "api_key" not in home.catalog.read_text()

    def test_a_value_over_several_lines_is_left_to_its_owner(self, home: Home, block: str) -> None:
        own = block.replace('"https://far.example/v1"', '"""\\\n  https://far.example/v1"""')
        home.catalog.write_text(own)
        with pytest.raises(BadInput, match="not on one line"):
            write(home, UpstreamEntry("far", base_url="https://further.example/v1"))
        assert home.catalog.read_text() == own

    def test_a_key_of_a_table_of_your_own_is_stored_when_the_table_asks_for_it(self, home: Home) -> None:
        own = '[upstreams.far]\nkind = "openai"\nbase_url = "https://far.example/v1"\napi_key_file = "keys/far"\n'
        home.catalog.write_text(own)
        add(home, "far", UpstreamRequest(model=None), lambda question, **_: "" if "Model" in question else "sk-3")
        assert home.catalog.read_text() == own
        assert (home.config / "keys" / "far").read_text() == "sk-3\n"


class TestRemove:
    def test_what_was_added_is_gone_and_the_rest_is_byte_for_byte(self, home: Home) -> None:
        home.catalog.write_text(MINE)
        write(home, FAR)
        home.catalog.write_text(home.catalog.read_text() + "\n[models.y]\nrepo = 'c/d'\n")
        (home.config / "keys").mkdir()
        (home.config / "keys" / "far").write_text("sk-1\n")
        gone = remove(home, "far")
        assert home.catalog.read_text() == MINE + "\n[models.y]\nrepo = 'c/d'\n"
        assert "[upstreams.far]" in gone.lines and gone.key_file == home.config / "keys" / "far"
        assert not gone.key_file.exists()

    def test_own_lines_in_the_block_are_given_back(self, home: Home) -> None:
        write(home, FAR)
        home.catalog.write_text(home.catalog.read_text().replace("[upstreams.far]\n", "[upstreams.far]\njoin = true\n"))
        assert "join = true" in remove(home, "far").lines

    def test_a_shipped_one_loses_its_key_and_stays_known(self, home: Home) -> None:
        add(home, "cerebras", UpstreamRequest(), lambda question, **_: "csk-1")
        remove(home, "cerebras")
        assert not (home.config / "keys" / "cerebras").exists()
        assert "cerebras" in check(home, home.catalog.read_text()).upstreams

    @pytest.mark.parametrize(
        ("more", "word"),
        [
            ("\n[[routes]]\nmatch = 'x'\nupstream = 'far'\n", "far"),
            ("timeout_s = 5\n", "timeout_s = 5"),
        ],
    )
    def test_what_something_else_needs_is_not_removed(self, home: Home, more: str, word: str) -> None:
        write(home, replace(FAR, route=None, model=None))
        home.catalog.write_text(text := home.catalog.read_text() + more)
        with pytest.raises(BadInput) as refused:
            remove(home, "far")
        assert word in refused.value.what + refused.value.why
        assert home.catalog.read_text() == text

    @pytest.mark.parametrize("name", ["nope", "../models", "cerebras", "local"])
    def test_what_was_never_added_is_said_so(self, home: Home, name: str) -> None:
        with pytest.raises(BadInput, match="nothing was added"):
            remove(home, name)

    def test_a_table_of_your_own_is_yours_to_remove(self, home: Home) -> None:
        home.catalog.write_text('[upstreams.far]\nkind = "openai"\nbase_url = "http://127.0.0.1:1"\n')
        with pytest.raises(BadInput, match=":1 has a"):
            remove(home, "far")


@pytest.mark.parametrize("broken", ["a = 1\n\n[upstreams.x\n", '[upstreams.x]\nkind = "openai"\nfle = 1\n'])
def test_every_command_names_the_same_line_of_a_broken_file(home: Home, broken: str) -> None:
    home.catalog.write_text(broken)
    sentences = set()
    for change in (lambda: set_offline(home, True), lambda: write(home, FAR), lambda: remove(home, "x")):
        with pytest.raises(BadInput) as refused:
            change()
        sentences.add(refused.value.what)
    assert len(sentences) == 1 and f"{home.catalog}:3" in sentences.pop()
    assert home.catalog.read_text() == broken


@pytest.mark.parametrize(
    "entry",
    [
        UpstreamEntry("far", kind="openai", base_url="ftp://far"),
        UpstreamEntry("far", kind="openai"),
        UpstreamEntry("local", kind="openai", base_url="http://x"),
        UpstreamEntry("a b", kind="openai", base_url="http://x"),
        UpstreamEntry("../keys", kind="openai", base_url="http://x"),
    ],
)
def test_what_would_not_be_valid_is_refused_and_the_file_untouched(home: Home, entry: UpstreamEntry) -> None:
    home.catalog.write_text(MINE)
    with pytest.raises(BadInput):
        write(home, entry)
    assert home.catalog.read_text() == MINE


def test_a_file_that_is_broken_already_is_left_alone_and_its_line_named(home: Home) -> None:
    home.catalog.write_text("[upstreams.x\n")
    with pytest.raises(BadInput, match=r"models\.toml:1"):
        write(home, UpstreamEntry("far", kind="openai", base_url="https://far.example/v1"))
    assert home.catalog.read_text() == "[upstreams.x\n"


def test_a_table_of_the_user_s_own_is_not_doubled(home: Home) -> None:
    own = '[upstreams.far]\nkind = "openai"\nbase_url = "http://127.0.0.1:1"\n'
    home.catalog.write_text(own)
    with pytest.raises(BadInput, match=r":1 has a \[upstreams\.far\] of your own"):
        write(home, UpstreamEntry("far", kind="openai", base_url="https://far.example/v1"))
    assert home.catalog.read_text() == own


def test_values_are_quoted(home: Home) -> None:
    odd = 'a"b\\c\u00e9'
    write(home, UpstreamEntry("far", kind="openai", base_url="https://far.example/v1", model=odd))
    from llmstack.client.profile import files

    assert files(home).table("profiles")["far"]["model"] == f"far/{odd}"


def test_an_earlier_route_that_takes_its_names_is_told(home: Home) -> None:
    home.catalog.write_text('[[routes]]\nmatch = "*"\nupstream = "local"\n')
    added = write(home, UpstreamEntry("far", kind="openai", base_url="https://far.example/v1", route="x-*"))
    assert added.hidden_by == "*"


def test_offline_is_switched_on_and_off_without_a_trace(home: Home) -> None:
    home.catalog.write_text(MINE)
    set_offline(home, True)
    set_offline(home, True)
    choice = check(home, home.catalog.read_text()).choose("cerebras/x")
    assert choice is not None and not choice.targets and choice.refused == ("cerebras",)
    here = check(home, home.catalog.read_text()).choose("ollama/x")
    assert here is not None and here.targets
    set_offline(home, False)
    assert home.catalog.read_text() == MINE


def test_offline_drops_the_cloud_from_a_chain_and_keeps_what_is_here(home: Home) -> None:
    text = 'offline = true\n[[routes]]\nmatch = "big"\nupstream = "local"\nfallback = ["cerebras"]\n'
    choice = check(home, text).choose("big")
    assert choice is not None and [t.name for t in choice.targets] == ["local"]


class TestAdd:
    def test_a_shipped_one_asks_for_its_key_alone(self, home: Home) -> None:
        asked: list[tuple[str, bool]] = []

        def ask(question: str, *, default: str | None = None, secret: bool = False) -> str:
            asked.append((question, secret))
            return " csk-1234 \n"

        outcome = add(home, "cerebras", UpstreamRequest(), ask)
        assert [secret for _, secret in asked] == [True]
        key = home.config / "keys" / "cerebras"
        assert outcome.key_file == str(key) and key.read_text() == "csk-1234\n"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert "csk-1234" not in home.catalog.read_text()

    def test_a_new_one_asks_for_address_key_and_model(self, home: Home) -> None:
        answers = {"Name": "far", "Base": "https://far.example/v1", "Key": "sk-1", "Model": "m-1"}

        def ask(question: str, *, default: str | None = None, secret: bool = False) -> str:
            return answers[question.split()[0].rstrip(",")]

        outcome = add(home, None, UpstreamRequest(), ask)
        assert (outcome.name, outcome.model) == ("far", "m-1")
        from llmstack.client.profile import routing

        assert routing(home).upstreams["far"].base_url == "https://far.example/v1"

    def test_a_key_file_that_others_can_read_is_refused(self, home: Home, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text("sk-1\n")
        key.chmod(0o644)
        with pytest.raises(BadInput, match="can be read by other users"):
            add(home, "cerebras", UpstreamRequest(key_file=key), never)
        assert not home.catalog.exists()

    def test_a_key_comes_from_one_place(self, home: Home) -> None:
        with pytest.raises(BadInput, match="one place"):
            add(home, "cerebras", UpstreamRequest(key_env="X", no_key=True), never)

    @pytest.mark.parametrize("key", ["", "  ", "two words", "a\x00b"])
    def test_what_is_no_key_is_refused_before_anything_is_written(self, home: Home, key: str) -> None:
        with pytest.raises(BadInput):
            add(home, "cerebras", UpstreamRequest(), lambda question, **_: key)
        assert not home.catalog.exists() and not (home.config / "keys").exists()
