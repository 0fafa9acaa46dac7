"""The report: one page that loads nothing, with every figure in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from llmstack.judge import RunVerdict
from llmstack.render.bench import show_bench, show_history, spark
from llmstack.render.report import report_html
from support.bench_runs import make_run


class _Tags(HTMLParser):
    VOID = frozenset({"meta", "link", "br", "hr", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.titles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.titles += tag == "h2"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()


@pytest.fixture(scope="module")
def page() -> str:
    runs = [make_run(number, factor=1 - number / 50) for number in range(1, 4)]
    return report_html(runs[-1], runs)


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    tags = _Tags()
    tags.feed(page)
    assert [a for a in tags.addresses if not a.startswith(("data:", "#"))] == []
    assert "<script" not in page
    assert not re.search(r"@import|url\(\s*['\"]?http", page)


def test_every_tag_is_closed_and_every_chart_is_there(page: str) -> None:
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert page.count("<svg") == 5
    assert tags.titles == 7


def test_planned_and_measured_are_both_drawn(page: str) -> None:
    for name in ("measured", "planned", "RTX 4070, in use", "RAM, planned"):
        assert name in page


def test_light_and_dark_and_print_have_colours_of_their_own(page: str) -> None:
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    assert "var(--c1)" in page


def test_text_from_outside_is_escaped() -> None:
    run = make_run(1, model="<script>alert(1)</script>")
    assert "<script>" not in report_html(run, [run])


def test_a_finding_is_told_at_the_top() -> None:
    run = msgspec.structs.replace(make_run(1), verdict=RunVerdict(False, ("prefill at 0: 10, planned 20",)))
    assert "prefill at 0: 10, planned 20" in report_html(run, [run]).partition("<svg")[0]


def test_a_run_that_was_stopped_early_still_makes_a_page() -> None:
    run = make_run(1)
    metrics = {"prefill at 0": run.metrics["prefill at 0"]}
    early = msgspec.structs.replace(
        run, metrics=metrics, complete=False, decode_tps=None, ttft_cold_s=None, cache_hit_ratio=None, memory=()
    )
    page = report_html(early, [early])
    assert "stopped early" in page and page.count("<svg") == 1


def test_the_terminal_shows_measured_beside_planned(capsys: pytest.CaptureFixture[str]) -> None:
    show_bench(make_run(1))
    line = next(line for line in capsys.readouterr().out.splitlines() if "prefill at 2048" in line)
    assert "305" in line and "330" in line and "█" in line


def test_history_on_the_terminal_has_a_line_per_run_and_a_small_chart(capsys: pytest.CaptureFixture[str]) -> None:
    show_history([make_run(1), make_run(2, factor=0.5)])
    out = capsys.readouterr().out
    assert out.count("1120-18000") == 2
    assert spark([350.0, 175.0]) in out
