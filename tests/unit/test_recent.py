"""A memory with a bound, in entries and in size."""

from __future__ import annotations

from llmstack.recent import Recent


def test_the_least_recently_used_goes_first_and_looking_is_using() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert list(recent) == ["a", "c"] and "b" not in recent and recent.get("b") is None


def test_a_new_value_replaces_the_old_one_and_its_size() -> None:
    recent: Recent[str, str] = Recent(9, most_size=10, size_of=len)
    recent.put("a", "12345678")
    recent.put("a", "12")
    recent.put("b", "12345678")
    assert list(recent) == ["a", "b"]
    recent.put("c", "1")
    assert list(recent) == ["b", "c"]


def test_a_value_larger_than_the_bound_is_not_remembered() -> None:
    recent: Recent[str, str] = Recent(9, most_size=3, size_of=len)
    recent.put("a", "1234")
    assert len(recent) == 0
    recent.put("b", "123")
    assert len(recent) == 1


def test_what_comes_from_before_goes_first_and_changes_nothing_that_is_there() -> None:
    recent: Recent[str, int] = Recent(3)
    recent.put("b", 2)
    for key, value in (("b", 9), ("a", 1), ("z", 0)):
        recent.put_oldest(key, value)
    recent.put_oldest("y", -1)  # no room for anything older
    assert list(recent) == ["z", "a", "b"] and recent.get("b") == 2


def test_popped_and_cleared_entries_free_their_size() -> None:
    recent: Recent[str, str] = Recent(9, most_size=4, size_of=len)
    recent.put("a", "1234")
    assert recent.pop("a") == "1234" and recent.pop("a") is None
    recent.put("b", "1234")
    recent.clear()
    recent.put("c", "1234")
    assert list(recent) == ["c"]
