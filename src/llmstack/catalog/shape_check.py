"""Whether the dimensions that the catalog gives for a model are those of its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmstack.catalog.models import Model
from llmstack.gguf import GgufHeader, printable

MOST_TOLD = 4


def differences(model: Model, header: GgufHeader) -> tuple[str, ...]:
    """What the file's header has otherwise, a phrase each; empty where the catalog gives none, or both agree.

    A value that the file leaves out is llama.cpp's default, and tells nothing.
    """
    return tuple(_differences(model, header)) if model.shape else ()


def difference_sentence(name: str, phrases: Sequence[str]) -> str:
    """The sentence about them; empty for none."""
    if not phrases:
        return ""
    more = f", and {len(phrases) - MOST_TOLD} more" if len(phrases) > MOST_TOLD else ""
    return f"the catalog's dimensions of {name} are not those of its file: {', '.join(phrases[:MOST_TOLD])}{more}"


def _differences(model: Model, header: GgufHeader) -> Iterator[str]:
    if not _same(model.arch, header.arch):
        yield f"its architecture is {printable(header.arch, 60)}, not {model.arch}"
        return
    for key, value in model.shape.items():
        if key == "vocab_size":
            actual: Any = header.n_tokens or None
        elif key == "tied":
            actual = not any(tensor.name == "output.weight" for tensor in header.tensors)
        else:
            actual = header.values.get(f"{header.arch}.{key}")
        if actual is not None and not _same(value, actual):
            yield f"{key} is {_written(actual)}, not {_written(value)}"


def _same(value: Any, actual: Any) -> bool:
    """A single number means the same for every block."""
    mine, its = _listed(value), _listed(actual)
    count = max(len(mine), len(its))
    mine, its = mine * count if len(mine) == 1 else mine, its * count if len(its) == 1 else its
    return mine == its


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _written(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return printable(str(value), 40)
    kinds = ", ".join(str(one) for one in dict.fromkeys(value))
    return f"{len(value)} values of {printable(kinds, 40)}"
