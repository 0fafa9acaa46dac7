"""The bench's page: one file that needs no network, light or dark as the reader's system says, printable.

Charts are pygal's SVG with its script left out; their colours are the page's own CSS variables.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

from llmstack.bench.record import BenchRun, MemoryRow
from llmstack.judge import Metric
from llmstack.paths import resource

HISTORY = 20  # runs in the last chart
_PARTS = ("weights", "context", "compute", "other")


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    unit: str


@dataclass(frozen=True, slots=True)
class Chart:
    """keys: the names of the series, in the order of the page's colours."""

    title: str
    keys: tuple[str, ...]
    svg: str
    note: str


def report_html(run: BenchRun, runs: Sequence[BenchRun]) -> str:
    """runs: this model's history on this machine, the oldest first."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource("templates")), autoescape=True, undefined=jinja2.StrictUndefined
    )
    charts = [
        _by_depth(run, "prefill", "Prefill by depth"),
        _by_depth(run, "decode", "Decode by depth"),
        _first_tokens(run),
        _memory(run.memory),
        _history(runs[-HISTORY:]),
    ]
    return environment.get_template("report.html.j2").render(
        run=run,
        when=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.at)),
        tiles=_tiles(run),
        charts=[chart for chart in charts if chart is not None],
        rows=[_table_row(m, run.expected.get(name)) for name, m in run.metrics.items()],
    )


def _tiles(run: BenchRun) -> list[Tile]:
    def tile(label: str, value: float | None, unit: str, digits: int = 0) -> Tile:
        return Tile(
            label, "–" if value is None else f"{value:,.{digits}f}", unit if value is not None else "not measured"
        )

    hits = None if run.cache_hit_ratio is None else run.cache_hit_ratio * 100
    return [
        tile("prefill", run.prefill_tps, "tokens/s"),
        tile("decode", run.decode_tps, "tokens/s", 1),
        tile("first token, cold", run.ttft_cold_s, f"s, {run.prompt_tokens:,} tokens", 2),
        tile("first token, warm", run.ttft_warm_s, "s", 2),
        tile("from the cache", hits, "% of a next turn", 1),
        tile("the proxy adds", run.proxy_ttft_overhead_ms, "ms", 1),
    ]


def _table_row(metric: Metric, planned: float | None) -> dict[str, str]:
    return {
        "name": metric.name,
        "median": f"{metric.median:,.4g}" if metric.median < 1000 else f"{metric.median:,.0f}",
        "unit": metric.unit,
        "spread": f"{metric.spread:.0%}" if metric.n > 1 else "",
        "n": str(metric.n),
        "load": f"{metric.load:.0%}",
        "planned": "" if planned is None else f"{planned:,.4g}" if planned < 1000 else f"{planned:,.0f}",
    }


def _options(**more: Any) -> dict[str, Any]:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--dim)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--grid)",
        guide_stroke_color="var(--grid)",
        major_guide_stroke_color="var(--grid)",
        colors=tuple(f"var(--c{number})" for number in range(1, 6)),
        opacity="1",
        opacity_hover="1",
        font_family="inherit",
        label_font_size=12,
        major_label_font_size=12,
        value_font_size=12,
        value_label_font_size=12,
        title_font_size=12,
    )
    return {
        "style": style,
        "js": [],
        "width": 440,
        "height": 260,
        "margin": 8,
        "margin_right": 24,
        "show_legend": False,
        "disable_xml_declaration": True,
        "explicit_size": False,
        "max_scale": 6,
        "y_labels_major_count": 3,
        "value_formatter": _short,
        **more,
    }


def _svg(chart: Any) -> str:
    """The chart's elements; the data that pygal adds for its own script is left out with it."""
    return re.sub(r"<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def _marks(run: BenchRun, kind: str) -> list[tuple[int, Metric]]:
    prefix = f"{kind} at "
    return sorted((int(name.removeprefix(prefix)), m) for name, m in run.metrics.items() if name.startswith(prefix))


def _by_depth(run: BenchRun, kind: str, title: str) -> Chart | None:
    marks = _marks(run, kind)
    if not marks:
        return None
    top = max([m.high for _, m in marks] + [run.expected.get(m.name, 0.0) for _, m in marks])
    options = _options(range=(0, top * 1.05), dots_size=4, xrange=(0, max(max(d for d, _ in marks), 512)))
    chart = pygal.XY(**options)
    chart.x_labels = [depth for depth, _ in marks]
    chart.x_value_formatter = _short
    chart.add("measured", [(depth, m.median) for depth, m in marks])
    planned = [(depth, run.expected[m.name]) for depth, m in marks if m.name in run.expected]
    keys: tuple[str, ...] = ("measured",)
    if planned:
        chart.add("planned", planned, stroke_style={"width": 2, "dasharray": "6, 5"})
        keys = ("measured", "planned")
    note = "tokens/s, over the tokens that are in the cache already"
    return Chart(title, keys, _svg(chart), note)


def _first_tokens(run: BenchRun) -> Chart | None:
    points = [(n.removeprefix("first token "), m) for n, m in run.metrics.items() if n.startswith("first token ")]
    if not points:
        return None
    chart = pygal.HorizontalBar(**_options(range=(0, max(m.median for _, m in points) * 1.05)))
    chart.x_labels = [f"{name}, {_short(m.median)} s" for name, m in reversed(points)]
    chart.add("measured", [m.median for _, m in reversed(points)])
    return Chart("Time to the first token", ("measured",), _svg(chart), "s, through the proxy")


def _memory(rows: Sequence[MemoryRow]) -> Chart | None:
    if not rows:
        return None
    chart = pygal.HorizontalStackedBar(**_options())
    names = []
    bars: dict[str, list[float | None]] = {part: [] for part in (*_PARTS, "in use")}
    for row in reversed(rows):
        for label, parts in (
            (f"{row.name}, in use", {"in use": row.measured_mib and row.measured_mib / 1024}),
            (f"{row.name}, planned", {part: getattr(row, f"{part}_mib") / 1024 for part in _PARTS}),
        ):
            names.append(label)
            for part, values in bars.items():
                values.append(parts.get(part))
    chart.x_labels = names
    for part, values in bars.items():
        chart.add(part, values)
    return Chart("Memory by device", tuple(bars), _svg(chart), "GiB; caches that fill up with use left out")


def _history(runs: Sequence[BenchRun]) -> Chart | None:
    measured = [run for run in runs if {"prefill at 0", "decode at 0"} <= run.metrics.keys()]
    if len(measured) < 2:
        return None

    def against_first(name: str) -> list[float]:
        first = measured[0].metrics[name].median or 1.0
        return [100 * run.metrics[name].median / first for run in measured]

    first, prefill, decode = measured[0], against_first("prefill at 0"), against_first("decode at 0")
    options = _options(range=(0, max(*prefill, *decode) * 1.05), dots_size=4)
    chart = pygal.Line(**options)
    chart.x_labels = [
        str(number) if len(measured) < 12 or number % 5 == 0 else "" for number in range(1, len(measured) + 1)
    ]
    chart.add("prefill", prefill)
    chart.add("decode", decode)
    span = f"the last {len(measured)} runs of this model on this machine"
    note = f"% of the first one, {first.id}, with nothing in the cache; {span}"
    return Chart("History", ("prefill", "decode"), _svg(chart), note)
