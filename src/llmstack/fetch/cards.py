"""What the catalog's models do on common cards: the table of docs/models.md."""

from __future__ import annotations

from pathlib import Path

from llmstack.catalog.models import Catalog
from llmstack.fetch.survey import SurveyRow, best
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan.cards import listed

# GB: name, total MiB and free MiB (some is the desktop's). Their rates are those of `plan.cards`, as for a card that a
# user has and that nothing has measured.
_SIZES: dict[int, tuple[str, int, int]] = {
    8: ("RTX 4060", 8188, 7680),
    12: ("RTX 3060", 12288, 11776),
    16: ("RTX 5060 Ti", 16311, 15616),
    24: ("RTX 3090", 24576, 23808),
    48: ("RTX 6000 Ada", 49140, 48384),
    80: ("H100", 81559, 80896),
}
CARDS = {gib: listed(Device(name, "CUDA", total, free)) for gib, (name, total, free) in _SIZES.items()}
RAM = Ram(65536, 57344, None, 60.0)
CPU = Cpu(8, 16, ("avx2", "f16c", "fma"))


def machine(gib: int) -> Hardware:
    """A desktop with one of the cards, 64 GB of dual-channel DDR5 and eight cores."""
    return Hardware(RAM, CPU, (CARDS[gib],))


def cards(catalog: Catalog, cache: Path | None = None) -> dict[str, dict[int, SurveyRow]]:
    """Every model in its best size on every card."""
    return {
        name: {gib: best(name, model, machine(gib), cache) for gib in CARDS}
        for name, model in catalog.models.items()
        if model.shape and not model.handoff
    }
