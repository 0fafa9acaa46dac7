"""What the catalog's models do on common cards: the table of docs/models.md."""

from __future__ import annotations

from pathlib import Path

from llmstack.catalog.models import Catalog
from llmstack.fetch.survey import Row, best
from llmstack.hardware import Cpu, Device, Hardware, Ram

CARDS: dict[int, Device] = {
    # GB: name, total and free MiB (some is the desktop's), then of the makers' data sheets the bandwidth (GB/s),
    # the dense FP16 tensor compute (TFLOP/s) and PCIe (GB/s)
    8: Device("RTX 4060", "CUDA", 8188, 7680, 272.0, 60.0, 12.0),
    12: Device("RTX 3060", "CUDA", 12288, 11776, 360.0, 51.0, 24.0),
    16: Device("RTX 5060 Ti", "CUDA", 16311, 15616, 448.0, 95.0, 24.0),
    24: Device("RTX 3090", "CUDA", 24576, 23808, 936.0, 142.0, 24.0),
    48: Device("RTX 6000 Ada", "CUDA", 49140, 48384, 960.0, 364.0, 24.0),
    80: Device("H100", "CUDA", 81559, 80896, 3350.0, 990.0, 50.0),
}
RAM = Ram(65536, 57344, None, 60.0)
CPU = Cpu(8, 16, ("avx2", "f16c", "fma"))


def machine(gib: int) -> Hardware:
    """A desktop with one of the cards, 64 GB of dual-channel DDR5 and eight cores."""
    return Hardware(RAM, CPU, (CARDS[gib],))


def cards(catalog: Catalog, cache: Path | None = None) -> dict[str, dict[int, Row]]:
    """Every model in its best size on every card."""
    return {
        name: {gib: best(name, model, machine(gib), cache) for gib in CARDS}
        for name, model in catalog.models.items()
        if model.arch and not model.handoff
    }
