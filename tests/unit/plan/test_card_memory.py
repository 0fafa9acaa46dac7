"""A card by the name that people call it."""

from __future__ import annotations

import re

import pytest

from llmstack import commands
from llmstack.errors import BadInput
from llmstack.plan.card_memory import MEMORY, card_named, shown
from llmstack.plan.cards import _BOARDS, figures_of


@pytest.mark.parametrize(
    ("said", "name", "gib"),
    [
        ("RTX 4070", "NVIDIA GeForce RTX 4070", 12), ("4070", "NVIDIA GeForce RTX 4070", 12),
        ("rtx4070", "NVIDIA GeForce RTX 4070", 12),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "NVIDIA GeForce RTX 4070 Ti SUPER", 16),
        ("4060ti 16gb", "NVIDIA GeForce RTX 4060 Ti", 16), ("RTX 4060 Ti", "NVIDIA GeForce RTX 4060 Ti", 8),
        ("RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Laptop GPU", 16),
        ("RTX 3060 8 GB", "NVIDIA GeForce RTX 3060", 8),
        ("rx 7900xtx", "AMD Radeon RX 7900 XTX", 24), ("A100 40GB", "NVIDIA A100", 40),
        ("Arc B580", "Intel Arc B580", 12),
        ("RTX 6000 Ada", "NVIDIA RTX 6000 Ada", 48), ("NVIDIA H100 80GB HBM3", "NVIDIA H100", 80),
    ],
)  # fmt: skip
def test_a_card_is_known_by_what_people_call_it(said: str, name: str, gib: float) -> None:
    card = card_named(said)
    assert (card.name, card.total_mib, card.free_mib) == (name, gib * 1024, gib * 1024)


def test_every_card_that_is_planned_for_has_its_memory_and_every_memory_its_figures() -> None:
    boards = {key for _, family in _BOARDS for key, *_ in family if re.fullmatch(r"[a-z0-9 ]+", key)}
    lacking = {
        *(
            "rtx pro 4000 blackwell sff",
            "rtx 4000 sff ada",
            "h100 pcie",
            "gt 1030",
        ),  # the plain name has it, or nobody uses it
        *("quadro rtx 5000", "quadro rtx 4000", "quadro p6000"),
    }
    assert boards - set(MEMORY) <= lacking
    for key in MEMORY:
        assert figures_of(shown(key)).known and card_named(shown(key)).name == shown(key)


def test_memory_that_is_said_beside_it_counts() -> None:
    assert card_named("RTX 3090", 20480).total_mib == 20480


@pytest.mark.parametrize(
    ("said", "near"), [("RTX 4071", "RTX 4070"), ("geforce rtx 3080ty", "RTX 3080"), ("toaster", "--vram")]
)
def test_an_unknown_one_is_refused_with_the_nearest(said: str, near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_typed", ("plan", "m", "--gpu", said))
    with pytest.raises(BadInput) as refused:
        card_named(said)
    assert near in refused.value.next and refused.value.next.startswith("llmstack plan m --")


def test_an_amount_that_was_never_sold_is_refused() -> None:
    with pytest.raises(BadInput, match="it has 8 GiB or 16 GiB"):
        card_named("RTX 4060 Ti 12GB")
