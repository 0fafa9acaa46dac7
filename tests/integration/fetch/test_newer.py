"""`models update`: what a repository has under a name now comes beside the old file, and never in silence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack.cli.main import run
from llmstack.errors import MissingPart, NotSo
from llmstack.fetch import locate, models_dir, resolve
from llmstack.fetch.find_local import entry_of_file
from llmstack.fetch.newer import pull_newer
from llmstack.fetch.progress import Stage, TransferProgress
from llmstack.fetch.remote import header_of
from llmstack.paths import Home
from support.model_bytes import model_bytes
from support.search_hub import HubFile, HubRepo, SearchHub, search_hub

REPO = "maker/tiny-GGUF"
NAME = f"hf:{REPO}/Tiny-Q4_K_M.gguf"
PARTS = tuple(f"split/Tiny-BF16-0000{number}-of-00002.gguf" for number in (1, 2))
OLD, NEW = "a" * 40, "b" * 40


def whole(seed: int, shard: tuple[int, int] | None = None) -> HubFile:
    data = model_bytes(100_000, seed, shard=shard) if shard else model_bytes(100_000, seed)
    return HubFile(data, len(data))


def parts(seed: int) -> dict[str, HubFile]:
    return {name: whole(seed + number, (number, 2)) for number, name in enumerate(PARTS)}


@pytest.fixture
def hub(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchHub]:
    with search_hub({REPO: HubRepo({"Tiny-Q4_K_M.gguf": whole(1), **parts(10)})}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def catalog(home: Home, hub: SearchHub) -> Home:
    """The model under a name, pinned to a commit and a digest."""
    file = hub.repos[REPO].files["Tiny-Q4_K_M.gguf"]
    home.catalog.parent.mkdir(parents=True, exist_ok=True)
    home.catalog.write_text(
        f'[models.tiny]\nrepo = "{REPO}"\nrevision = "{OLD}"\nfile = "Tiny-Q4_K_M.gguf"\n'
        f'size = {file.size}\nsha256 = "{file.sha256}"\nsampling = {{ temperature = 0.25 }}\n'
    )
    return home


def replace_upstream(hub: SearchHub) -> None:
    hub.repos[REPO].files = {"Tiny-Q4_K_M.gguf": whole(2), **parts(20)}
    hub.repos[REPO].commit = NEW


def names(home: Home) -> list[str]:
    return [stored.path.relative_to(home.models).as_posix() for stored in models_dir.contents(home)]


def test_what_is_the_same_is_said_and_nothing_is_pulled(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve(home, NAME)
    hub.repos[REPO].commit = NEW
    assert run(["models", "update", "Tiny-Q4_K_M.gguf"]) == 0
    assert "is what its repository has" in capsys.readouterr().out
    assert names(home) == [f"{REPO}/Tiny-Q4_K_M.gguf"]


def test_the_new_file_comes_beside_the_old_one_and_both_ways_on_are_named(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    old = resolve(home, NAME).path
    assert old is not None
    before = old.read_bytes()
    replace_upstream(hub)
    assert run(["models", "update", f"{REPO}/Tiny-Q4_K_M.gguf"]) == 0
    shown = capsys.readouterr().out
    assert f"{OLD[:12]} before, {NEW[:12]} now" in shown
    assert f"up {NAME}@{NEW}" in shown and f"models remove {old}" in shown
    assert old.read_bytes() == before
    assert names(home) == [f"{REPO}/Tiny-Q4_K_M.gguf", f"{REPO}@{NEW[:12]}/Tiny-Q4_K_M.gguf"]


def test_a_split_model_comes_whole_though_one_part_alone_changed(home: Home, hub: SearchHub) -> None:
    resolve(home, f"hf:{REPO}/{PARTS[0]}")
    hub.repos[REPO].files[PARTS[1]] = whole(99, (1, 2))
    hub.repos[REPO].commit = NEW
    [newer] = pull_newer(home, f"hf:{REPO}/{PARTS[0]}")
    assert newer.after is not None and len(newer.after.paths) == len(newer.before) == 2
    assert {path.parent.name for path in newer.after.paths} == {"split"}
    assert newer.after.paths[0].samefile(newer.before[0])  # the part that is the same is not fetched again


def test_a_catalog_s_model_keeps_its_settings_under_the_new_commit(catalog: Home, hub: SearchHub) -> None:
    resolve(catalog, "tiny")
    replace_upstream(hub)
    [newer] = pull_newer(catalog, "tiny")
    assert newer.after is not None and newer.after.path is not None
    known = entry_of_file(catalog, newer.after.path)
    assert known is not None and known[0] == "tiny" and known[1].sampling.temperature == 0.25


def test_once_the_old_file_is_removed_the_name_means_the_new_one_without_a_download(home: Home, hub: SearchHub) -> None:
    old = resolve(home, NAME).path
    replace_upstream(hub)
    [newer] = pull_newer(home, NAME)
    assert old is not None and newer.after is not None and newer.after.path is not None
    models_dir.remove(home, (old,))
    again = resolve(home, NAME).path
    assert again == old and again.samefile(newer.after.path)


def test_what_is_gone_or_not_from_the_hub_is_refused_with_the_next_step(
    home: Home, hub: SearchHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotSo, match="no file in the stack's own store"):
        pull_newer(home, NAME)
    resolve(home, NAME)
    hub.repos[REPO].files = {"Other-Q4_K_M.gguf": whole(5)}
    with pytest.raises(NotSo, match="is gone from where it came") as gone:
        pull_newer(home, NAME)
    assert f"plan hf:{REPO}/Other-Q4_K_M.gguf" in gone.value.next
    own = home.models / "own" / "mine" / "Mine.gguf"
    own.parent.mkdir(parents=True)
    own.write_bytes(model_bytes(1000))
    with pytest.raises(NotSo, match="cannot be brought up to date"):
        pull_newer(home, "Mine.gguf")
    monkeypatch.setenv("LLMSTACK_OFFLINE", "1")
    with pytest.raises(MissingPart, match="offline mode"):
        pull_newer(home, NAME)


def test_bytes_that_the_catalog_names_are_taken_under_another_name_and_that_is_said(
    catalog: Home, hub: SearchHub
) -> None:
    files = hub.repos[REPO].files
    files["Tiny-UD-Q4_K_M.gguf"] = files.pop("Tiny-Q4_K_M.gguf")
    seen: list[TransferProgress] = []
    path = resolve(catalog, "tiny", on_progress=seen.append).path
    assert path is not None and hashlib.sha256(path.read_bytes()).hexdigest() == files["Tiny-UD-Q4_K_M.gguf"].sha256
    [said] = [one.note for one in seen if one.stage is Stage.RENAMED]
    assert "calls it Tiny-UD-Q4_K_M.gguf now; the bytes are the same" in said


def test_a_commit_that_is_gone_gives_its_bytes_where_they_are_still_there_and_nothing_else(
    catalog: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos[REPO].commit = NEW
    assert header_of(locate(catalog, "tiny").sources[0]).tensors  # the same bytes at another commit
    hub.repos[REPO].files["Tiny-Q4_K_M.gguf"] = whole(7)
    for what in ("tiny", f"{NAME}@{OLD}"):
        assert run(["models", "pull", what, "--json"]) == 1
        error = json.loads(capsys.readouterr().out)
        assert f"has no commit or branch {OLD}" in error["error"]
        assert f"plan {NAME}" in error["next"]
    assert names(catalog) == []


def test_bytes_behind_the_xet_bridge_are_planned_from_and_pulled_by_plain_http(home: Home, hub: SearchHub) -> None:
    hub.repos[REPO].xet = True
    assert header_of(locate(home, NAME).missing[0]).tensors
    path = resolve(home, NAME).path
    assert path is not None
    record = models_dir.read_record(path)
    assert record is not None and record.sha256 == hub.repos[REPO].files["Tiny-Q4_K_M.gguf"].sha256
    assert OLD in record.source and "Signature" not in record.source  # the commit, not an address that expires


def test_models_are_updated_as_json_for_programs(
    home: Home, hub: SearchHub, capsys: pytest.CaptureFixture[str]
) -> None:
    old = resolve(home, NAME).path
    replace_upstream(hub)
    assert run(["models", "update", NAME, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["models"]
    assert row["before"] == [str(old)] and (row["revision"], row["now"]) == (OLD, NEW)
    assert row["reference"] == f"{NAME}@{NEW}" and not row["moved"]
    assert [Path(path).is_file() for path in row["after"]] == [True]
