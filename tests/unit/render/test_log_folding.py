"""Logs fold to what a person reads, and nothing that matters is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.render.folding import LineFolder, LogLevel, Shown, raw
from llmstack.render.logs import printable
from llmstack.supervisor import LogLine

REQUEST = [
    "0.00.857.741 I slot get_availabl: id  0 | task -1 | selected slot by LRU, t_last = -1",
    "0.00.858.161 I slot launch_slot_: id  0 | task 7 | processing task, is_child = 0",
    "0.00.874.148 I slot print_timing: id  0 | task 7 | prompt eval time =     500.00 ms /  4000 tokens (x)",
    "0.00.874.572 I slot print_timing: id  0 | task 7 |        eval time =    2000.00 ms /   100 tokens (x)",
    "0.00.874.624 I slot print_timing: id  0 | task 7 |       total time =    2500.00 ms /  4100 tokens",
    "0.00.874.763 I slot      release: id  0 | task 7 | stop processing: n_tokens = 4100, truncated = 0",
]


def line(text: str, service: str = "server", time_s: float = 1.0) -> LogLine:
    return LogLine(time_s, service, text)


def folded(*texts: str, service: str = "server") -> list[Shown]:
    folder = LineFolder()
    return [shown for text in texts for shown in folder.receive(line(text, service))] + folder.flush()


def test_a_request_to_the_engine_is_one_line() -> None:
    assert [shown.text for shown in folded(*REQUEST)] == [
        "task 7: read 4,000 tokens in 0.50 s, 8,000/s, wrote 100 tokens in 2.00 s, 50/s, 4,100 held"
    ]


def test_two_requests_at_once_are_told_apart() -> None:
    other = [text.replace("task 7", "task 8").replace("4000 tokens", "10 tokens") for text in REQUEST]
    mixed = [text for pair in zip(REQUEST, other, strict=True) for text in pair]
    texts = [shown.text for shown in folded(*mixed)]
    assert [text.split(",")[0] for text in texts] == ["task 7: read 4", "task 8: read 10 tokens in 0.50 s"]


def test_a_request_that_has_not_ended_is_said_to_go_on() -> None:
    assert [shown.text for shown in folded(*REQUEST[:3])] == ["task 7 is in progress"]


def test_an_error_within_a_request_is_shown_at_once() -> None:
    texts = folded(*REQUEST[:2], "0.00.9 E slot update_slots: id  0 | task 7 | failed to decode", REQUEST[-1])
    assert texts[0].level is LogLevel.ERROR
    assert "failed to decode" in texts[0].text


def test_details_of_loading_are_counted() -> None:
    details = [f"0.00.00{n}.000 I print_info: key {n}" for n in range(5)]
    shown = folded(*details, "0.00.010.000 I srv          init: model loaded")
    assert [s.text for s in shown] == [
        "(5 lines of loading details; --raw shows them)",
        "srv          init: model loaded",
    ]


def test_repeated_lines_are_counted() -> None:
    texts = [shown.text for shown in folded("same", "same", "same", "other", "same", "same")]
    assert texts == ["same", "(the same 2 times more)", "other", "same", "(the same once more)"]


def test_a_proxied_request_reads_as_a_sentence() -> None:
    event = (
        '{"event":"request","method":"POST","path":"/v1/messages","status":200,"model":"demo","upstream":"local",'
        '"stop_reason":"end_turn","tokens_in":4000,"tokens_out":25,"ttft_ms":114.3,"total_ms":21500}'
    )
    assert folded(event, service="proxy")[0].text == (
        "POST /v1/messages 200, demo, 4,000 in, 25 out, first token 114 ms, 21.5 s, end_turn"
    )


def test_whose_key_it_came_with_is_said_but_for_the_owner_s() -> None:
    event = (
        '{"event":"request","method":"POST","path":"/v1/messages","status":200,"key":"%s",'
        '"tokens_in":40,"tokens_cached":30}'
    )
    assert folded(event % "kim", service="proxy")[0].text == "POST /v1/messages 200, for kim, 40 in (30 cached), 0 out"
    assert folded(event % "owner", service="proxy")[0].text == "POST /v1/messages 200, 40 in (30 cached), 0 out"


def test_a_search_that_the_proxy_answered_is_named() -> None:
    event = (
        '{"event":"request","method":"POST","path":"/v1/messages","status":200,"web":"web_search","web_result":"ok"}'
    )
    assert folded(event, service="proxy")[0].text == "POST /v1/messages 200, web_search ok"


@pytest.mark.parametrize(("status", "level"), [(200, LogLevel.INFO), (404, LogLevel.WARN), (529, LogLevel.ERROR)])
def test_a_requests_level_follows_its_status(status: int, level: LogLevel) -> None:
    event = f'{{"event":"request","method":"GET","path":"/x","status":{status}}}'
    assert folded(event, service="proxy")[0].level is level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0.00.1 E srv x: broken", LogLevel.ERROR),
        ("0.00.1 W srv x: odd", LogLevel.WARN),
        ("0.00.1 I srv x: fine", LogLevel.INFO),
        ("0.00.1 D srv x: detail", LogLevel.DEBUG),
        ("error: Failed to init server", LogLevel.ERROR),
        ("Traceback (most recent call last):", LogLevel.INFO),
        ("llmstack: exited with status 1; starting it again in 0.2 s", LogLevel.WARN),
        ("", LogLevel.INFO),
    ],
)
def test_levels_are_read_from_the_line(text: str, level: LogLevel) -> None:
    assert raw(line(text)).level is level
    assert raw(line(text)).text == text


@given(st.lists(st.text(max_size=60), max_size=20))
def test_any_line_can_be_folded_and_unknown_ones_stay(texts: list[str]) -> None:
    shown = folded(*texts)
    unknown = [t for t in texts if not t.startswith("{") and "|" not in t and " I " not in t and ":" not in t]
    for text in dict.fromkeys(unknown):
        assert any(text in one.text or one.text in text for one in shown)


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\tc\u202eé模") == "a\\x1b[31mb\tc\\u202eé模"


def test_what_a_plan_with_a_device_adds_to_each_request_is_left_out() -> None:
    """Verbosity 4, for the lines of loading."""
    chatter = [
        "0.03.024.409 I srv  server_strea: conv_id= (empty=1)",
        "0.03.033.675 I srv    operator(): chat format: peg-native",
        "0.03.037.631 I srv  get_availabl: updating prompt cache",
        "0.03.037.651 I srv          load:  - looking for better prompt, base f_keep = -1.000, f_sim = 0.000",
        "\trepeat_last_n = 64, repeat_penalty = 1.000, frequency_penalty = 0.000, presence_penalty = 0.000",
        "0.03.042.400 I srv  update_slots: all slots are idle",
    ]
    assert len(folded(*chatter, *REQUEST)) == 1
