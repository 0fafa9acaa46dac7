"""A file that was replaced under its name, or is gone: told, and never taken in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from llmstack.cli.main import run
from llmstack.errors import MissingPart
from llmstack.fetch import locate, models_dir, resolve
from llmstack.fetch.upstream_state import UpstreamState, check
from llmstack.paths import Home
from support.model_bytes import model_bytes
from support.search_hub import HubFile, HubRepo, SearchHub, search_hub

NAME = "hf:maker/tiny-GGUF/Tiny-Q4_K_M.gguf"
OLD, NEW = "a" * 40, "b" * 40


def whole(seed: int) -> HubFile:
    data = model_bytes(200_000, seed)
    return HubFile(data, len(data))


@pytest.fixture
def hub(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchHub]:
    with search_hub({"maker/tiny-GGUF": HubRepo({"Tiny-Q4_K_M.gguf": whole(1)})}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def replace_upstream(hub: SearchHub, seed: int = 2) -> None:
    repo = hub.repos["maker/tiny-GGUF"]
    repo.files["Tiny-Q4_K_M.gguf"], repo.commit = whole(seed), NEW


def state(home: Home) -> UpstreamState:
    [one] = check(home)
    return one.state


def test_a_file_that_is_the_same_is_said_to_be(home: Home, hub: SearchHub) -> None:
    resolve(home, NAME)
    assert state(home) is UpstreamState.SAME
    assert run(["models", "list", "--check"]) == 0


def test_a_new_commit_with_the_same_file_is_no_change(home: Home, hub: SearchHub) -> None:
    resolve(home, NAME)
    hub.repos["maker/tiny-GGUF"].commit = NEW
    assert state(home) is UpstreamState.SAME


def test_other_bytes_under_the_same_name_are_told_and_the_old_file_stays(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    old = resolve(home, NAME).path
    assert old is not None
    before = old.read_bytes()
    replace_upstream(hub)
    [one] = check(home)
    assert (one.state, one.revision, one.now) == (UpstreamState.REPLACED, OLD, NEW)
    assert "models update maker/tiny-GGUF/Tiny-Q4_K_M.gguf" in one.next
    assert run(["models", "list", "--check"]) == 1
    shown = capsys.readouterr().out
    assert f"was replaced under its name: {OLD[:12]} here, {NEW[:12]} there" in shown and "yours stays" in shown
    again = resolve(home, NAME).path  # by its name alone the file that is here goes on being used
    assert again == old and old.read_bytes() == before


def test_the_new_one_is_pulled_by_its_commit_beside_the_old_one(home: Home, hub: SearchHub) -> None:
    old = resolve(home, NAME).path
    replace_upstream(hub)
    assert locate(home, f"{NAME}@{NEW}").path is None  # the file that is here is not the one that was asked for
    new = resolve(home, f"{NAME}@{NEW}").path
    assert new is not None and old is not None and new != old
    assert new.read_bytes() == hub.repos["maker/tiny-GGUF"].files["Tiny-Q4_K_M.gguf"].header
    assert old.exists() and locate(home, f"{NAME}@{OLD}").path == old and locate(home, f"{NAME}@{NEW}").path == new


def test_the_same_bytes_at_another_commit_are_not_fetched_again(home: Home, hub: SearchHub) -> None:
    old = resolve(home, NAME).path
    hub.repos["maker/tiny-GGUF"].commit = NEW
    hub.requests.clear()
    new = resolve(home, f"{NAME}@{NEW}").path
    assert new is not None and old is not None and new.samefile(old)
    record = models_dir.read_record(new)
    assert record is not None and NEW in record.source


def test_a_name_that_is_gone_is_looked_for_in_its_repository(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve(home, NAME)
    repo = hub.repos["maker/tiny-GGUF"]
    repo.files = {"Tiny-v2-Q4_K_M.gguf": whole(3)}
    [one] = check(home)
    assert one.state is UpstreamState.GONE and "plan hf:maker/tiny-GGUF/Tiny-v2-Q4_K_M.gguf " in one.next
    repo.files = {}
    [one] = check(home)
    assert one.next.endswith("models find tiny")
    del hub.repos["maker/tiny-GGUF"]
    assert run(["models", "list", "--check", "--json"]) == 1
    [told] = json.loads(capsys.readouterr().out)["files"]
    assert told["state"] == "gone" and "there is no repository" in told["why"]


def test_the_same_bytes_under_another_name_are_known_again(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve(home, NAME)
    hub.repos["maker/tiny-GGUF"].files = {"Tiny-UD-Q4_K_M.gguf": whole(1)}
    [one] = check(home)
    assert one.state is UpstreamState.RENAMED and "Tiny-UD-Q4_K_M.gguf" in one.why
    assert run(["models", "list", "--check"]) == 0
    assert "is the same: its repository calls it Tiny-UD-Q4_K_M.gguf now" in capsys.readouterr().out


def test_a_stranger_s_file_is_not_asked_for(home: Home, hub: SearchHub) -> None:
    path = home.models / "mine" / "own" / "own.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(model_bytes(1000))
    assert state(home) is UpstreamState.UNASKED
    assert hub.requests == []


def test_offline_it_says_so(home: Home, hub: SearchHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTACK_OFFLINE", "1")
    with pytest.raises(MissingPart, match="offline mode"):
        list(check(home))
