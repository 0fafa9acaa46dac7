"""All phases' JSON as one page: every figure beside the plan's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import Row, read


def report(out: Path) -> Path:
    """Writes DIR/gpu.md."""
    pages = {phase: read(out, phase) for phase in ("build", "models", "memory", "speed", "stack")}
    about: Row = next((page for page in pages.values() if "device" in page), {})
    lines = ["# Measured on a card" if not about.get("stand_in") else "# Tried on a stand-in", ""]
    lines += [_sentence(about), ""]
    for title, phase, part in (
        ("Build", "build", _build),
        ("Memory, MiB", "memory", _memory),
        ("Memory beside other programs", "memory", _squeezed),
        ("Speed, tokens/s", "speed", _speed),
        ("One flag at a time, decode tokens/s at the least depth", "speed", _flags),
        ("Rates fitted to the first models, judged on the others", "speed", _fitted),
        ("The stack", "stack", _stack),
    ):
        rows = list(part(pages[phase]["rows"]))
        if rows:
            lines += [f"## {title}", "", *rows, ""]
    failed = [(phase, row) for phase, page in pages.items() for row in page["rows"] if "error" in row]
    if failed:
        lines += ["## What failed", "", *(f"- {phase}, {row['key']}: {row['error']}" for phase, row in failed), ""]
    path = out / "gpu.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    return path


def _sentence(about: Row) -> str:
    if not about:
        return "Nothing was measured."
    driver = f", driver {about['driver']}" if about.get("driver") else ""
    return (
        f"{about['device']} ({about['backend']}, {about['vram_mib']:,} MiB{driver}), {about['cores']} cores, "
        f"{about['ram_mib']:,} MiB of RAM, engine {about['engine']}, {about['date']}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    content = [[_text(cell) for cell in row] for row in rows]
    if content:
        yield f"| {' | '.join(head)} |"
        yield "|" + " --- |" * len(head)
        yield from (f"| {' | '.join(row)} |" for row in content)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def _build(rows: list[Row]) -> Iterator[str]:
    measured = [row for row in rows if "minutes" in row]
    head = ("backend", "build", "cores", "minutes", "MiB")

    def minutes(row: Row) -> str:
        return f"{_text(row['minutes'])}{' (went on after a cut)' if row.get('resumed') else ''}"

    return _table(head, ([row["backend"], row["build"], row["cores"], minutes(row), row["mib"]] for row in measured))


def _memory(rows: list[Row]) -> Iterator[str]:
    measured = [row for row in rows if "loaded" in row and "longest" not in row]
    head = (
        "what",
        "weights",
        "planned",
        "context",
        "planned",
        "compute",
        "planned",
        "process",
        "card",
        "planned in all",
    )

    def cells(row: Row) -> list[object]:
        planned, held = row["planned"], row["grown"]
        parts = [figure for part in ("weights", "context", "compute") for figure in (held[part], planned[part])]
        return [row["key"], *parts, held["driver"], row["card"], planned["total"]]

    yield from _table(head, map(cells, measured))
    over = [row["key"] for row in measured if row["card"] is not None and row["card"] > row["planned"]["total"] + 1]
    if measured:
        yield ""
        yield f"{len(measured)} settings; more than planned on the card: {', '.join(over) or 'none'}."


def _squeezed(rows: list[Row]) -> Iterator[str]:
    measured = [row for row in rows if "longest" in row]
    head = ("what", "free", "context", "longest planned", "planned", "card", "next that runs not")

    def cells(row: Row) -> list[object]:
        fails = next((step for step, runs in row["runs"].items() if not runs), row.get("unlimited", "beyond 1.5"))
        return [row["key"], row["free_mib"], row["ctx"], row["longest"], row["planned"]["total"], row["card"], fails]

    return _table(head, map(cells, measured))


def _speed(rows: list[Row]) -> Iterator[str]:
    """Medians of the rounds; how far the plan is off."""
    by_place: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in rows:
        model, _, rest = row["key"].partition(" ")
        way, _, number = rest.rpartition(" ")
        if "speeds" not in row or not number.isdigit() or way not in ("ours", "fit", "article"):
            continue
        for speed in row["speeds"]:
            by_place.setdefault((model, speed["what"], speed["depth"], way), []).append(speed)
    median: Callable[[list[Row], str], float] = lambda seen, key: statistics.median(one[key] for one in seen)  # noqa: E731
    head = ("model", "what", "depth", "placement", "measured", "spread", "planned", "off")
    off: dict[str, list[float]] = {}

    def cells(place: tuple[str, str, int, str], seen: list[Row]) -> list[object]:
        measured, planned = median(seen, "median"), median(seen, "planned")
        off.setdefault(place[1], []).append(abs(planned / measured - 1))
        spread = f"{min(one['low'] for one in seen):,.1f} to {max(one['high'] for one in seen):,.1f}"
        return [*place, measured, spread, planned, f"{planned / measured - 1:+.0%}"]

    yield from _table(head, [cells(place, seen) for place, seen in by_place.items()])
    for what, values in off.items():
        yield ""
        yield f"{what}: {statistics.median(values):.0%} off in the median, {max(values):.0%} at worst."


def _flags(rows: list[Row]) -> Iterator[str]:
    from benchmarks.gpu.speed import ONE_FLAG

    measured = [(row, name) for row in rows for name in ONE_FLAG if row["key"].endswith(f" {name}") and "speeds" in row]
    head = ("model and flag", "prefill", "planned", "decode", "planned")

    def first(row: Row, what: str) -> list[object]:
        speed: dict[str, Any] = next(one for one in row["speeds"] if one["what"] == what)
        return [speed["median"], speed["planned"]]

    return _table(head, ([row["key"], *first(row, "prefill"), *first(row, "decode")] for row, _ in measured))


def _fitted(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        if row["key"] == "link":
            link = row.get("left_out") or f"{row['pinned_gbps']:.1f} GB/s pinned, {row['pageable_gbps']:.1f} pageable"
            yield f"The link: {link}."
            yield ""
        if "judged" not in row:
            continue
        yield f"Fitted to {row['fitted_to']} timings: {row['rates']}. Off in the median on the others: {row['off']}."
        yield ""
        head = ("model", "what", "depth", "measured", "planned before", "after the fit")
        keys = ("key", "what", "depth", "measured", "before", "after")
        yield from _table(head, ([one[key] for key in keys] for one in row["judged"]))


def _stack(rows: list[Row]) -> Iterator[str]:
    shown = ((row["key"], {k: v for k, v in row.items() if k not in ("key", "argv", "result")}) for row in rows)
    return _table(("step", "figures"), ([key, str(figures)] for key, figures in shown))
