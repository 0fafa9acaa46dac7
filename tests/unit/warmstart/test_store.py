"""Saved states: only complete pairs count, the oldest go first, and what a state belongs to."""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest

from llmstack.warmstart.fingerprint import fingerprint, folder_name
from llmstack.warmstart.statefile import MAGIC, read_tokens
from llmstack.warmstart.store import RememberedPrefix, StateLabel, Store, StoredState

from .conftest import Said

ARGV = ("/bin/engine", "-m", "/models/a.gguf", "-c", "4096", "-ctk", "q8_0", "--port", "8080", "-t", "4")


def state(tokens: list[int], *, packed: bool = True, cells: bytes = b"cells" * 100) -> bytes:
    words = [0xFFFFFFFF, 1, len(tokens), *tokens, 0] if packed else tokens
    return MAGIC + struct.pack("<II", 4, len(words)) + struct.pack(f"<{len(words)}I", *words) + cells


@pytest.fixture
def store(tmp_path: Path, said: Said) -> Store:
    return Store(tmp_path, log_event=said)


def put(store: Store, key: str, tokens: list[int], **more: Any) -> StoredState | None:
    folder = store.root / "engine"
    name = store.begin(folder)
    data = state(tokens)
    (folder / name).write_bytes(data)
    label = StateLabel("prefix", key, "s", "m")
    return store.finish(folder, name, label, **{"written": len(data), **more})


def test_tokens_are_read_packed_and_bare(tmp_path: Path) -> None:
    file = tmp_path / "x.kv"
    for packed in (True, False):
        file.write_bytes(state([5, 6, 7], packed=packed))
        assert read_tokens(file) == array("I", [5, 6, 7])


def test_a_file_cut_anywhere_in_its_head_has_no_tokens(tmp_path: Path) -> None:
    file, data = tmp_path / "x.kv", state([5, 6, 7], cells=b"")
    for length in range(len(data)):
        file.write_bytes(data[:length])
        assert read_tokens(file) is None
    file.write_bytes(MAGIC + struct.pack("<II", 4, 0xFFFFFFF0))
    assert read_tokens(file) is None


def test_a_finished_state_can_be_used_and_is_private(store: Store) -> None:
    saved = put(store, "k", [1, 2, 3])
    assert saved is not None
    (saved,) = store.states()
    assert store.tokens(saved) == array("I", [1, 2, 3]) and store.intact(saved)
    assert saved.path.stat().st_mode & 0o777 == 0o600
    assert store.usable(store.root / "engine", "s") == [saved]
    assert store.usable(store.root / "engine", "other") == store.usable(store.root / "elsewhere", "s") == []


def test_a_new_state_of_the_same_key_takes_the_place_of_the_old(store: Store) -> None:
    put(store, "k", [1])
    put(store, "k", [1, 2])
    assert [saved.tokens for saved in store.states()] == [2]


@pytest.mark.parametrize(
    "wrong", [{"written": 10**6}, {"written": 0}, {"exactly": array("I", [1, 2])}], ids=["short", "empty", "went on"]
)
def test_what_is_not_whole_is_dropped_and_told(store: Store, said: Said, wrong: dict[str, Any]) -> None:
    assert put(store, "k", [1, 2, 3], **wrong) is None
    assert store.states() == [] and not list(store.root.glob("*/*"))
    assert said.lines[-1]["result"] == "dropped"


@pytest.mark.parametrize("part", range(16))
def test_a_truncated_state_is_ignored_and_swept(store: Store, part: int) -> None:
    saved = put(store, "k", [1, 2, 3])
    assert saved is not None
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[: len(data) * part // 16])
    assert store.states() == []
    assert store.sweep() == 2 and not list(store.root.glob("*/*"))


def test_one_changed_byte_is_noticed(store: Store) -> None:
    saved = put(store, "k", [1, 2, 3])
    assert saved is not None
    data = bytearray(saved.path.read_bytes())
    data[-1] ^= 1
    saved.path.write_bytes(data)
    assert not store.intact(saved) and store.states() == []


def test_a_file_that_was_looked_at_is_read_again_only_after_a_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = put(store, "k", [1, 2, 3])
    assert saved is not None
    os.utime(saved.path, (1, 1))
    assert store.intact(saved)
    with monkeypatch.context() as patched:
        patched.setattr("llmstack.warmstart.store._digest", lambda _: pytest.fail("it was read again"))
        assert store.intact(saved)
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not store.intact(saved)


def test_an_unfinished_save_is_swept_and_named(store: Store, said: Said) -> None:
    name = store.begin(store.root / "engine")
    assert store.sweep() == 0, "another server of this process saves it now"
    assert Store(store.root, log_event=said).sweep() == 1
    assert said.lines[-1]["file"] == name


def test_the_least_recently_used_go_when_the_budget_is_used_up(tmp_path: Path, said: Said) -> None:
    size = len(state([1, 2, 3]))
    store = Store(tmp_path, budget=size * 2, log_event=said)
    for number, key in enumerate("abc"):
        saved = put(store, key, [1, 2, 3])
        assert saved is not None
        os.utime(saved.path.with_suffix(".json"), (number, number))
    store.sweep()
    assert {saved.key for saved in store.states()} == {"b", "c"}


def test_only_the_last_prefixes_are_remembered_and_read_back(store: Store) -> None:
    for number in range(6):
        store.remember(RememberedPrefix(f"{number:032x}", {"messages": []}))
        os.utime(store.root / f"{number:032x}.prefix", (number, number))
    store.remember(RememberedPrefix("f" * 32, {"messages": [{"role": "system", "content": "x"}]}, 9))
    kept = list(store.prefixes())
    assert len(kept) == 4 and kept[0].key == "f" * 32 and kept[0].tokens == 9


def test_clear_removes_states_and_prefixes(store: Store) -> None:
    put(store, "k", [1])
    store.remember(RememberedPrefix("a", {}))
    number, size = store.clear()
    assert number == 1 and size > 0
    assert not [path for path in store.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("flag", "value", "same"),
    [("-ctk", "q4_0", False), ("-c", "8192", False), ("-m", "/models/b.gguf", False), ("--new", "1", False),
     ("--port", "9", True), ("-t", "8", True), ("-ub", "256", True)],
)  # fmt: skip
def test_only_flags_that_shape_a_state_move_it_to_another_folder(flag: str, value: str, same: bool) -> None:
    argv = list(ARGV)
    if flag in argv:
        argv[argv.index(flag) + 1] = value
    else:
        argv += [flag, value]
    assert (folder_name(argv) == folder_name(ARGV)) is same


def test_a_fingerprint_changes_when_model_template_or_engine_change(tmp_path: Path) -> None:
    model, engine, other = tmp_path / "m.gguf", tmp_path / "llama-server", tmp_path / "libllama.so"
    for path in (model, engine, other):
        path.write_bytes(b"x")
    argv = (str(engine), "-m", str(model), "--api-key-file", str(tmp_path / "key"))
    first = fingerprint(argv, "template")
    assert fingerprint(argv, "template") == first != fingerprint(argv, "another")
    for path in (model, engine, other):
        copy = path.with_suffix(".new")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        changed = fingerprint(argv, "template")
        assert changed != first
        first = changed


def test_every_shard_of_a_split_model_counts(tmp_path: Path) -> None:
    shards = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for shard in shards:
        shard.write_bytes(b"x")
    argv = ("/bin/engine", "-m", str(shards[0]))
    first = fingerprint(argv, "")
    shards[1].write_bytes(b"other")
    assert fingerprint(argv, "") != first
