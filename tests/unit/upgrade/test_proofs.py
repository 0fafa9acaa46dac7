"""What counts as a proof: two examinations, turned into words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from llmstack.judge import Better, Metric
from llmstack.upgrade.examine import Examination, QuestionResult, Reuse
from llmstack.upgrade.proofs import Proof, failed, in_doubt, judge


def speed(name: str, tps: float, pace: float = 100.0) -> Metric:
    values = tuple(tps * share for share in (0.97, 0.99, 1.0, 1.01, 1.03))
    return Metric(name, "tokens/s", Better.HIGHER, tps, tps * 0.99, tps * 1.01, 5, 0.0, values, pace)


def speeds(prefill: float, decode: float, pace: float = 100.0) -> dict[str, Metric]:
    rates = (("prefill at 0", prefill), ("decode at 0", decode))
    return {name: speed(name, tps, pace) for name, tps in rates}


GOOD = Examination(
    engine="old",
    loaded_s=2.0,
    exact=[QuestionResult("set_level", True)],
    forced=[QuestionResult("Bash", True), QuestionResult("Read", True)],
    free=[QuestionResult("read a file", True)],
    large=QuestionResult("large", True),
    large_bytes=150_000,
    hard=[QuestionResult("a pattern", True), QuestionResult("formats", False, "failed to parse grammar")],
    streams=[QuestionResult("text", True)],
    second_turn=Reuse(1000, 1100, 1000),
    saved=1,
    restored=Reuse(1100, 1200, 1100),
    texts=["a", "b", "c", "d"],
    speeds=speeds(500, 40),
)


def named(proofs: tuple[Proof, ...], name: str) -> Proof:
    return next(proof for proof in proofs if proof.name == name)


def test_the_same_again_holds_in_every_proof() -> None:
    assert failed(judge(GOOD, replace(GOOD, engine="new"))) == ()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("forced tool calls", {"exact": [QuestionResult("set_level", False, "no call came")]}),
        (
            "your client's tools",
            {"forced": [QuestionResult("Bash", False, "status 400"), QuestionResult("Read", True)]},
        ),
        ("free tool calls", {"free": [QuestionResult("read a file", False, "the call came as text")]}),
        ("streams", {"streams": [QuestionResult("text", False, "the stream has no end")]}),
        (
            "schemas",
            {"hard": [QuestionResult("a pattern", False, "failed to parse grammar"), QuestionResult("formats", False)]},
        ),
        ("large tools", {"large": QuestionResult("large", False, "failed to parse grammar")}),
        ("second turn", {"second_turn": Reuse(1000, 1100, 0)}),
        ("snapshot", {"restored": Reuse(1100, 1200, 20)}),
        ("prefill", {"speeds": speeds(250, 40)}),
        ("decode", {"speeds": speeds(500, 20)}),
    ],
)
def test_what_the_new_engine_no_longer_does_fails_in_the_proof_of_that_name(
    name: str, changed: dict[str, object]
) -> None:
    bad = failed(judge(GOOD, replace(GOOD, **changed)))  # type: ignore[arg-type]
    assert [proof.name for proof in bad] == [name]
    assert bad[0].figure


def test_what_the_engine_of_now_does_not_do_either_is_shown_and_not_held_against_the_new_one() -> None:
    poor = replace(
        GOOD,
        free=[QuestionResult("read a file", False, "no call")],
        hard=[QuestionResult("a pattern", False, "no grammar")],
        restored=Reuse(1100, 1200, 0),
    )
    proofs = judge(poor, replace(poor, engine="new"))
    assert failed(proofs) == ()
    assert [named(proofs, name).ok for name in ("free tool calls", "schemas", "snapshot")] == [None, None, None]


def test_a_forced_call_that_a_schema_decides_must_come_whatever_the_engine_of_now_does() -> None:
    poor = replace(GOOD, exact=[QuestionResult("set_level", False, "no call came")])
    assert [proof.name for proof in failed(judge(poor, poor))] == ["forced tool calls"]


def test_a_speed_that_one_look_holds_equal_is_not_held_against_the_engine() -> None:
    slow = replace(GOOD, speeds=speeds(325, 26, pace=65.0))
    assert {proof.name for proof in failed(judge(GOOD, slow))} == {"prefill", "decode"}
    assert failed(judge(GOOD, slow, [(speeds(300, 25), speeds(310, 24))])) == ()


def test_looks_that_all_find_it_slower_are_shown_with_their_middle() -> None:
    slow = replace(GOOD, speeds=speeds(250, 40))
    [proof] = failed(judge(GOOD, slow, [(speeds(400, 40), speeds(160, 41)), (speeds(500, 39), speeds(300, 39))]))
    assert proof.name == "prefill" and "50% of now in 3 looks at both" in proof.why


def test_a_machine_that_woke_up_hides_no_engine_that_is_half_as_fast() -> None:
    """As a CI machine once did: other work slowed the engine of now down, and was gone when the new one's turn came."""
    awake = replace(GOOD, speeds=speeds(490, 39, pace=200.0))
    assert {proof.name for proof in failed(judge(GOOD, awake))} == {"prefill", "decode"}


def test_a_busy_machine_hides_no_engine_that_is_half_as_fast() -> None:
    busy = {name: structs.replace(m, load=0.6) for name, m in speeds(200, 18).items()}
    assert {proof.name for proof in failed(judge(GOOD, replace(GOOD, speeds=busy)))} == {"prefill", "decode"}


def test_of_a_model_that_fixed_costs_rule_speeds_are_shown_and_not_judged() -> None:
    proofs = judge(GOOD, replace(GOOD, speeds=speeds(100, 9)), speeds=False)
    assert failed(proofs) == () and named(proofs, "prefill").ok is None
    assert "not judged: so small a model" in named(proofs, "prefill").why


@pytest.mark.parametrize(
    ("looks", "doubted"),
    [
        ([1.0], False),
        ([0.5], True),
        ([0.5, 0.5], True),
        ([0.5, 0.5, 0.5], False),
        ([0.5, 1.0], False),
        ([36.0], True),  # the engine of now in a bad minute, or a better engine
        ([1.5, 1.4], False),
        ([36.0, 0.5, 0.5, 0.5], False),
    ],
)
def test_speeds_are_looked_at_until_the_looks_agree(looks: list[float], doubted: bool) -> None:
    assert in_doubt([(speeds(500, 40), speeds(500 * share, 40)) for share in looks]) is doubted


def test_an_engine_of_now_that_was_starved_in_one_look_hides_no_slow_one() -> None:
    starved, slow = speeds(14, 1), replace(GOOD, speeds=speeds(250, 20))
    looks = [(speeds(500, 40), slow.speeds)] * 3
    assert {p.name for p in failed(judge(replace(GOOD, speeds=starved), slow, looks))} == {"prefill", "decode"}


def test_an_engine_that_is_faster_in_two_looks_is_faster() -> None:
    fast = replace(GOOD, speeds=speeds(800, 60))
    assert failed(judge(GOOD, fast, [(GOOD.speeds, fast.speeds)])) == ()


def test_other_words_at_temperature_zero_are_shown_from_where_they_part() -> None:
    proof = named(judge(GOOD, replace(GOOD, texts=["a", "b", "c and more", "d"])), "same text")
    assert proof.ok is None and proof.figure == "3 of 4 answers word for word" and "and more" in proof.why


def test_without_an_engine_to_compare_with_only_what_must_always_be_so_is_judged() -> None:
    alone = judge(None, replace(GOOD, speeds=speeds(1, 1), free=[QuestionResult("read a file", False, "no call")]))
    assert failed(alone) == ()
    assert [proof.name for proof in failed(judge(None, replace(GOOD, second_turn=Reuse(1000, 1100, 0))))] == [
        "second turn"
    ]
