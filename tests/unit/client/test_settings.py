"""Writing into somebody's settings file, and taking it out again."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstack.client.settings import HELPER, TTL, StackSettings, apply, undo, undo_every, written_files
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home

WANTED = StackSettings(
    {"ANTHROPIC_BASE_URL": "http://127.0.0.1:5000", "ANTHROPIC_MODEL": "m"}, "llmstack token", 300000
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "k")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "settings.json"


def test_no_file_becomes_one_that_only_its_owner_reads_and_is_gone_again(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "project" / ".claude" / "settings.local.json"
    file.parent.parent.mkdir()
    apply(home, file, WANTED)
    written = json.loads(file.read_text())
    assert written["env"]["ANTHROPIC_MODEL"] == "m" and written["env"][TTL] == "300000"
    assert written[HELPER] == "llmstack token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    undone = undo(home, file)
    assert undone.removed and not file.exists() and not file.parent.exists()


@pytest.mark.parametrize("empty", [b"", b"\n  \n", b"{}"])
def test_an_empty_file_is_empty_again(home: Home, file: Path, empty: bytes) -> None:
    file.write_bytes(empty)
    apply(home, file, WANTED)
    assert "env" in json.loads(file.read_text())
    assert undo(home, file).whole and file.read_bytes() == empty


@pytest.mark.parametrize(
    "bad",
    [
        b'{"model": "opus",}', b"{'a': 1}", b"[1, 2]", b'"text"', b'{"env": ["A=1"]}', b'{"a": "\xff"}',
        b"// comment\n{}", b"\xef\xbb\xbf{}", b'{"a": 1', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_settings_object_is_refused_and_untouched(home: Home, file: Path, bad: bytes) -> None:
    file.write_bytes(bad)
    before = file.stat()
    with pytest.raises(BadInput) as error:
        apply(home, file, WANTED)
    assert str(file) in error.value.what and "left as it is" in error.value.what
    assert file.read_bytes() == bad and file.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(NotSo):
        undo(home, file)


def test_a_mistake_is_named_with_its_line(home: Home, file: Path) -> None:
    file.write_text('{\n  "model": "opus"\n  "env": {}\n}')
    with pytest.raises(BadInput) as error:
        apply(home, file, WANTED)
    assert error.value.why.startswith("line 3, column 3")


FOREIGN = b"""{
\t"permissions": {"allow": ["Bash(ls:*)"], "deny": []},
\t"env": {"MY_OWN": "\xc3\xa9", "ANTHROPIC_MODEL": "opus"},
\t"apiKeyHelper": "/bin/vault read key",   "model": "opus"
}"""


def test_foreign_keys_stay_in_their_order_and_come_back_to_the_byte(home: Home, file: Path) -> None:
    file.write_bytes(FOREIGN)
    file.chmod(0o644)
    apply(home, file, WANTED)
    written = json.loads(file.read_text())
    assert list(written) == ["permissions", "env", HELPER, "model"]
    assert written["env"]["MY_OWN"] == "é" and written["permissions"] == {"allow": ["Bash(ls:*)"], "deny": []}
    assert written["env"]["ANTHROPIC_MODEL"] == "m" and written[HELPER] == "llmstack token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert undo(home, file).whole and file.read_bytes() == FOREIGN


def test_twice_is_once_and_undone_to_what_was_before_the_first(home: Home, file: Path) -> None:
    file.write_bytes(FOREIGN)
    assert apply(home, file, WANTED).changed
    once = file.read_bytes()
    assert not apply(home, file, WANTED).changed and file.read_bytes() == once
    other = StackSettings({"ANTHROPIC_BASE_URL": "http://127.0.0.1:6000"}, None, 1)
    assert apply(home, file, other).changed
    written = json.loads(file.read_text())
    assert written["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:6000"
    assert written["env"]["ANTHROPIC_MODEL"] == "opus" and written[HELPER] == "/bin/vault read key"
    undo(home, file)
    assert file.read_bytes() == FOREIGN


def test_what_somebody_changed_since_is_kept_when_it_is_undone(home: Home, file: Path) -> None:
    file.write_bytes(FOREIGN)
    apply(home, file, WANTED)
    edited = json.loads(file.read_text())
    edited["theme"] = "dark"
    edited["env"]["ANTHROPIC_BASE_URL"] = "http://mine"
    file.write_text(json.dumps(edited))
    undone = undo(home, file)
    assert not undone.whole
    after = json.loads(file.read_text())
    assert after == json.loads(FOREIGN) | {
        "theme": "dark",
        "env": {"MY_OWN": "é", "ANTHROPIC_MODEL": "opus", "ANTHROPIC_BASE_URL": "http://mine"},
    }


def test_a_change_between_two_runs_survives_the_undoing(home: Home, file: Path) -> None:
    file.write_bytes(FOREIGN)
    apply(home, file, WANTED)
    edited = json.loads(file.read_text()) | {"theme": "dark"}
    file.write_text(json.dumps(edited))
    apply(home, file, WANTED)
    undo(home, file)
    assert json.loads(file.read_text()) == json.loads(FOREIGN) | {"theme": "dark"}


def test_a_file_that_went_away_since_stays_away(home: Home, file: Path) -> None:
    file.write_bytes(FOREIGN)
    apply(home, file, WANTED)
    file.unlink()
    assert undo(home, file).removed and not file.exists()


def test_a_link_of_a_dotfile_manager_stays_a_link(home: Home, file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_bytes(FOREIGN)
    file.symlink_to(real)
    apply(home, file, WANTED)
    assert file.is_symlink() and json.loads(real.read_text())["env"]["ANTHROPIC_MODEL"] == "m"
    undo(home, file)
    assert file.is_symlink() and real.read_bytes() == FOREIGN


def test_two_files_are_undone_apart(home: Home, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_bytes(FOREIGN)
    apply(home, first, WANTED)
    apply(home, second, WANTED)
    undo(home, first)
    assert first.read_bytes() == FOREIGN and second.exists()
    undo(home, second)
    assert not second.exists()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["ANTHROPIC_MODEL", "ANTHROPIC_BASE_URL", "X", TTL])


@given(
    document=st.dictionaries(st.sampled_from(["a", "é", HELPER, "model"]), _VALUES, max_size=4),
    environment=st.none() | st.dictionaries(_NAMES, st.text(max_size=5), max_size=3),
    indent=st.sampled_from([None, 1, 4]),
    runs=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_object_comes_back_to_the_byte(
    home: Home,
    file: Path,
    document: dict[str, object],
    environment: dict[str, str] | None,
    indent: int | None,
    runs: int,
) -> None:
    whole = document if environment is None else {**document, "env": environment}
    data = json.dumps(whole, indent=indent, ensure_ascii=indent == 1).encode()
    file.write_bytes(data)
    for _ in range(runs):
        apply(home, file, WANTED)
    written = json.loads(file.read_text())
    assert {k: v for k, v in written.items() if k not in ("env", HELPER)} == {
        k: v for k, v in document.items() if k != HELPER
    }
    undo(home, file)
    assert file.read_bytes() == data


def test_a_backup_of_the_first_form_still_takes_out_what_is_ours(home: Home, file: Path) -> None:
    """Written by an earlier release: what it put into somebody's file must come out of it."""
    file.write_text('{"model": "opus"}')
    record = apply(home, file, WANTED).backup
    before = json.loads(record.read_text())
    first_form = {name: before[name] for name in ("path", "original", "mode", "written", "made_folder")} | {
        "environment": {**WANTED.environment, TTL: "300000"},
        "before_environment": {},
        "helper": WANTED.helper,
        "before_helper": None,
        "had_helper": False,
        "had_environment": False,
    }
    record.write_text(json.dumps(first_form))
    changed = json.loads(file.read_text()) | {"theme": "dark"}
    file.write_text(json.dumps(changed))
    assert not undo(home, file).whole
    assert json.loads(file.read_text()) == {"model": "opus", "theme": "dark"}


def test_everything_that_was_written_is_known_and_undone_at_once(home: Home, tmp_path: Path) -> None:
    own, fresh = tmp_path / "own" / "settings.json", tmp_path / "fresh" / "settings.local.json"
    own.parent.mkdir()
    own.write_text('{"model": "opus"}')
    for file in (own, fresh):
        apply(home, file, WANTED)
    assert set(written_files(home)) == {own, fresh}
    own.write_text(own.read_text().replace('"opus"', '"sonnet"'))  # somebody went on writing
    undo_every(home)
    assert json.loads(own.read_text()) == {"model": "sonnet"} and not fresh.exists()
    assert written_files(home) == () == undo_every(home)


def test_a_file_that_cannot_be_undone_is_named_and_the_others_are_undone(home: Home, tmp_path: Path) -> None:
    broken, fine = tmp_path / "a" / "settings.json", tmp_path / "b" / "settings.json"
    for file in (broken, fine):
        apply(home, file, WANTED)
    broken.write_text(broken.read_text()[:-4])
    with pytest.raises(NotSo) as refused:
        undo_every(home)
    assert str(broken) in refused.value.why and not fine.exists()
    assert written_files(home) == (broken,)
    broken.unlink()
    undo_every(home)
    assert written_files(home) == ()


def test_a_record_that_says_nothing_is_named_with_what_to_look_for(home: Home, file: Path) -> None:
    record = apply(home, file, WANTED).backup
    record.write_text("garbage")
    with pytest.raises(NotSo, match=record.name) as refused:
        undo_every(home)
    assert HELPER in refused.value.next
