"""The two tables of docs/models.md that are made from the catalog: what each model does on common cards, and where its
facts are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from llmstack.catalog.models import Model
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.fetch.survey import SurveyRow


def cards_markdown(
    table: Mapping[str, Mapping[int, SurveyRow]], models: Mapping[str, Model], cards: Mapping[int, str]
) -> str:
    """Model by card as a Markdown table: size chosen, context, predicted decode speed in tokens/s."""
    head = "| rank | model | " + " | ".join(f"{gib} GB ({name})" for gib, name in cards.items()) + " |"
    lines = [head, "|---" * (len(cards) + 2) + "|"]
    for name in sorted(table, key=lambda name: models[name].order):
        cells = []
        for gib in cards:
            row = table[name][gib]
            cells.append(f"{row.quant}, {row.context // 1024}k, {row.decode_tps:,.0f}" if row.fits else "does not fit")
        lines.append(f"| {_rank(models[name])} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def facts_markdown(models: Mapping[str, Model]) -> str:
    """Model by kind of fact as a Markdown table: the pages that each was read from."""
    lines = [
        "| model | looked up | licence | files | dimensions | context, sampling | tool calls, thinking | rank by |",
        "|---" * 8 + "|",
    ]
    for name in sorted(models, key=lambda name: models[name].order):
        model, pages = models[name], models[name].facts_from
        newer = f", superseded by {model.superseded_by}" if model.superseded_by else ""
        scores = [f"[{score.name} {score.value:g}]({score.source})" for score in model.scores]
        cells = [
            f"{name}{newer}",
            model.checked,
            " ".join((model.license, *_links(pages.license))),
            " ".join(_links((*pages.files, *pages.parts))),
            " ".join(_links(pages.shape)) or "read from its header",
            " ".join(_links((*pages.context, *pages.sampling))),
            " ".join(_links((*pages.tools, *pages.reasoning))),
            ", ".join(scores) or "size and age",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with its table that starts with the same columns replaced."""
    lines = page.split("\n")
    columns = table.partition("(")[0].partition("\n")[0]
    first = next((number for number, line in enumerate(lines) if line.startswith(columns)), None)
    if first is None:
        raise BadInput(
            f"the page has no table that starts with {columns.strip()}", next=command_line("models", "cards")
        )
    last = next((number for number in range(first, len(lines)) if not lines[number].startswith("|")), len(lines))
    return "\n".join([*lines[:first], *table.split("\n"), *lines[last:]])


def _rank(model: Model) -> str:
    return "old" if model.superseded_by else str(model.quality or "")


def _links(pages: Sequence[str]) -> list[str]:
    """Each page once, by whose it is."""
    return [f"[{_owner(page)}]({page})" for page in dict.fromkeys(pages)]


def _owner(page: str) -> str:
    """`Qwen` of a page on the hub, `llama.cpp` of one on GitHub, else the host."""
    address = urlsplit(page)
    host, parts = address.netloc.removeprefix("www."), [part for part in address.path.split("/") if part]
    if host == "huggingface.co" and parts:
        return parts[0]
    return parts[1] if host == "github.com" and len(parts) > 1 else host
