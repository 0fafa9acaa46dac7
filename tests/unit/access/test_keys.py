"""A key's limits, the file that holds all of them, and what each used: values and a folder."""

from __future__ import annotations

import datetime
import json
import re
import threading
from pathlib import Path

import pytest

from llmstack.access.book import MOST_KEYS, KeyBook, change_book, read_book
from llmstack.access.keys import (
    ClientKey,
    Standing,
    checked_globs,
    checked_name,
    digest_of,
    end_of,
    in_words,
    new_key,
    new_secret,
    span_s,
)
from llmstack.access.listed import list_keys
from llmstack.access.use import KeyUse, UseOfKeys, day_ends_in_s, read_use, write_use
from llmstack.errors import BadInput, NotSo
from llmstack.paths import Home

NOON = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC).timestamp()
DAY = 86400.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


def key(name: str = "kim", **fields: object) -> ClientKey:
    return ClientKey(name, f"id of {name}", digest_of(name.encode()), NOON, **fields)  # type: ignore[arg-type]


def test_a_key_is_256_random_bits_and_no_two_are_alike() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"sk-llmstack-[\w-]{43}", secret) for secret in secrets)


@pytest.mark.parametrize("name", ["kim", "Jörg", "kim@office", "a.b+c-d_e", "7", "x" * 32])
def test_names_that_people_have_are_taken(name: str) -> None:
    assert checked_name(f" {name} ") == name


@pytest.mark.parametrize("name", ["", " ", "a b", "-kim", "x" * 33, 'a"b', "a\nb", "a/b", "\x1b[1m", "owner", "Owner"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        checked_name(name)


def test_globs_may_stand_in_one_word_and_are_looked_at() -> None:
    assert checked_globs(["a*,b*", "a*"]) == ("a*", "b*")
    for bad in (["a,,b"], [""], ["x" * 201], [f"m{n}" for n in range(65)]):
        with pytest.raises(BadInput):
            checked_globs(bad)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * DAY), ("12h", 43200.0), ("10m", 600.0), ("2w", 14 * DAY), ("45 s", 45.0), ("0", 0.0)],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert span_s(text) == seconds


def test_the_last_day_of_a_key_is_whole_and_utc_s() -> None:
    end = end_of("2026-11-30", NOON)
    assert end == NOON + 1.5 * DAY
    assert in_words(end) == "the end of 2026-11-30 (UTC)"
    assert end_of("30d", NOON) == NOON + 30 * DAY
    assert end_of("2026-11-29T13:00", NOON) == end_of("2026-11-29T14:00+01:00", NOON) == NOON + 3600


@pytest.mark.parametrize(
    "text", ["2026-11-28", "0", "soon", "", "9999-12-31", "2026-13-01", "99999999d", "-1d", "1e9d"]
)
def test_what_is_past_or_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        end_of(text, NOON)


def test_a_rotated_key_counts_for_its_grace_and_the_limits_stay() -> None:
    old = key(models=("a*",), tokens_per_day=5)
    new = old.rotated(digest_of(b"new"), NOON, 600)
    assert (new.id, new.models, new.tokens_per_day) == (old.id, old.models, 5)
    assert new.standing_of(digest_of(b"new"), NOON + 601) is Standing.ACTIVE
    assert new.standing_of(old.digest, NOON + 599) is Standing.ACTIVE
    assert new.standing_of(old.digest, NOON + 600) is Standing.REPLACED
    for number in range(20):
        new = new.rotated(digest_of(bytes([number])), NOON, 600)
    assert len(new.former) < 5, "a key that is rotated all day does not grow"


def test_revoking_ends_the_former_key_too_and_expiry_is_a_moment() -> None:
    ended = key(revoked=NOON).rotated(digest_of(b"new"), NOON, 600)
    assert ended.standing_of(digest_of(b"kim"), NOON) is Standing.REVOKED
    assert key(expires=NOON + 1).standing(NOON) is Standing.ACTIVE
    assert key(expires=NOON).standing(NOON) is Standing.EXPIRED


def test_a_key_may_ask_for_what_its_globs_name() -> None:
    assert key().may_ask_for("anything")
    limited = key(models=("qwen*", "claude-haiku-?"))
    assert limited.may_ask_for("qwen3") and limited.may_ask_for("claude-haiku-4")
    assert not limited.may_ask_for("Qwen3") and not limited.may_ask_for("claude-opus-4")


def test_the_file_is_the_user_s_alone_and_holds_no_key(home: Home) -> None:
    secret = new_secret()
    change_book(home, lambda book: book.with_key(new_key("kim", secret, NOON, models=["a*"])))
    assert home.client_keys.stat().st_mode & 0o777 == 0o600
    assert secret not in home.client_keys.read_text() and secret[20:] not in home.client_keys.read_text()
    book = read_book(home)
    found = book.of_digest(digest_of(secret.encode()))
    assert found is not None and (found.name, found.models) == ("kim", ("a*",))
    assert book.named("KIM") is found and book.of_digest(digest_of(b"")) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"keys": [{"name": 1}]}', b'{"keys": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_is_named_and_not_written_over(home: Home, data: bytes) -> None:
    home.client_keys.parent.mkdir()
    home.client_keys.write_bytes(data)
    home.client_keys.chmod(0o600)
    with pytest.raises(BadInput) as error:
        change_book(home, lambda book: book.with_key(key()))
    assert "damaged" in error.value.what and home.client_keys.read_bytes() == data


def test_a_file_that_others_can_read_or_a_link_is_refused(home: Home, tmp_path: Path) -> None:
    change_book(home, lambda book: book.with_key(key()))
    home.client_keys.chmod(0o640)
    with pytest.raises(BadInput) as error:
        read_book(home)
    assert "chmod 600" in error.value.next
    home.client_keys.rename(tmp_path / "elsewhere")
    home.client_keys.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput):
        read_book(home)


def test_the_book_is_bounded_and_ended_keys_make_room(home: Home) -> None:
    book = KeyBook(tuple(key(f"k{number}") for number in range(MOST_KEYS)))
    with pytest.raises(NotSo):
        book.with_key(key("one-more"))
    ended = book.changed(key("k7", revoked=NOON)).with_key(key("one-more"))
    assert len(ended.keys) == MOST_KEYS and ended.named("k7") is None and ended.named("one-more")


def test_two_changes_at_once_are_both_in_the_file(home: Home) -> None:
    names = [f"k{number}" for number in range(12)]
    threads = [
        threading.Thread(target=change_book, args=(home, lambda book, n=name: book.with_key(key(n)))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {one.name for one in read_book(home).keys} == set(names)


def test_a_day_is_one_of_utc_and_the_next_begins_with_nothing(home: Home) -> None:
    use = UseOfKeys()
    use.note_request("kim", NOON)
    use.charge("kim", 100, NOON)
    midnight = NOON + DAY / 2
    assert use.of("kim", midnight - 1) == KeyUse(int(NOON // DAY), 100, 1, NOON)
    assert use.of("kim", midnight) == KeyUse(int(NOON // DAY) + 1, 0, 0, NOON)
    assert day_ends_in_s(midnight - 0.5) == 1 and day_ends_in_s(midnight) == 86400


def test_a_clock_that_is_set_back_gives_nobody_a_day_twice() -> None:
    use = UseOfKeys()
    use.charge("kim", 100, NOON)
    assert use.of("kim", NOON - DAY).tokens == 100
    use.charge("kim", 1, NOON - DAY)
    assert use.of("kim", NOON).tokens == 101
    use.charge("lee", 100, NOON + 400 * DAY)
    assert use.of("lee", NOON).tokens == 0, "a clock that was a year ahead for a moment is no year without tokens"


def test_what_was_used_is_read_back_and_names_that_are_gone_are_forgotten(home: Home) -> None:
    use = UseOfKeys()
    for number in range(1000):
        use.charge(f"k{number}", 7, NOON)
    use.keep({"k1", "owner"})
    write_use(home, use.encoded())
    assert not use.changed and home.key_use.stat().st_size < 200
    assert home.key_use.stat().st_mode & 0o777 == 0o600
    back = read_use(home)
    assert back.of("k1", NOON).tokens == 7 and back.of("k2", NOON).tokens == 0
    home.key_use.write_bytes(b"{ half")
    assert read_use(home).of("k1", NOON).tokens == 0


def test_the_list_says_what_counts_and_never_a_hash() -> None:
    used_up, fresh = key("kim", tokens_per_day=10), key("lee").rotated(digest_of(b"x"), NOON, 60)
    use = UseOfKeys()
    use.charge("kim", 10, NOON)
    rows = list_keys(KeyBook((used_up, fresh, key("max", revoked=NOON))), use, NOON).to_json()["keys"]
    assert [(row["name"], row["state"]) for row in rows] == [
        ("kim", "exhausted"),
        ("lee", "active"),
        ("max", "revoked"),
    ]
    assert rows[1]["former_until"] == NOON + 60
    assert used_up.digest not in json.dumps(rows) and fresh.digest not in json.dumps(rows)
