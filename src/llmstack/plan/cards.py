"""Known accelerators: memory bandwidth, dense 16-bit matrix rate, host link. Data, no logic but the look-up.

bandwidth in GB/s and compute in TFLOP/s (fp16 with fp32 sums, without sparsity) are the makers' published
figures; link is one direction of the slot the card is made for, GB/s (PCIe 3 x16 = 15.8, 4 x16 = 31.5,
4 x8 = 15.8, 5 x16 = 63).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmstack.hardware import Device


@dataclass(frozen=True, slots=True)
class Card:
    bandwidth_gbps: float
    compute_tflops: float
    link_gbps: float
    known: bool = True
    name: str = ""
    integrated: bool = False


def _part(bandwidth_gbps: float, compute_tflops: float) -> Card:
    """A part of the processor: its memory is the machine's RAM, and nothing crosses a bus to it."""
    return Card(bandwidth_gbps, compute_tflops, bandwidth_gbps / 2, integrated=True)


# Longest names first where one contains another: the first pattern that matches wins.
CARDS: tuple[tuple[str, Card], ...] = (
    ("rtx 4090 laptop", Card(576, 66, 31.5)),
    ("rtx 4080 laptop", Card(432, 49, 31.5)),
    ("rtx 4070 laptop", Card(256, 31, 15.8)),
    ("rtx 4060 laptop", Card(256, 23, 15.8)),
    ("rtx 4050 laptop", Card(192, 18, 15.8)),
    ("rtx 3060 laptop", Card(336, 21, 31.5)),
    ("rtx 5090", Card(1792, 209, 63)),
    ("rtx 5080", Card(960, 113, 63)),
    ("rtx 5070 ti", Card(896, 88, 63)),
    ("rtx 5070", Card(672, 62, 63)),
    ("rtx 5060 ti", Card(448, 47, 31.5)),
    ("rtx 5060", Card(448, 38, 31.5)),
    ("rtx 4090", Card(1008, 165, 31.5)),
    ("rtx 4080 super", Card(736, 104, 31.5)),
    ("rtx 4080", Card(717, 97, 31.5)),
    ("rtx 4070 ti super", Card(672, 88, 31.5)),
    ("rtx 4070 ti", Card(504, 80, 31.5)),
    ("rtx 4070 super", Card(504, 71, 31.5)),
    ("rtx 4070", Card(504, 58, 31.5)),
    ("rtx 4060 ti", Card(288, 44, 15.8)),
    ("rtx 4060", Card(272, 30, 15.8)),
    ("rtx 3090 ti", Card(1008, 80, 31.5)),
    ("rtx 3090", Card(936, 71, 31.5)),
    ("rtx 3080 ti", Card(912, 68, 31.5)),
    ("rtx 3080", Card(760, 60, 31.5)),
    ("rtx 3070 ti", Card(608, 44, 31.5)),
    ("rtx 3070", Card(448, 41, 31.5)),
    ("rtx 3060 ti", Card(448, 32, 31.5)),
    ("rtx 3060", Card(360, 25, 31.5)),
    ("rtx 3050", Card(224, 18, 15.8)),
    ("rtx 2080 ti", Card(616, 54, 15.8)),
    ("rtx 2080 super", Card(496, 45, 15.8)),
    ("rtx 2080", Card(448, 40, 15.8)),
    ("rtx 2070", Card(448, 30, 15.8)),
    ("rtx 2060", Card(336, 26, 15.8)),
    ("gtx 1080 ti", Card(484, 11, 15.8)),
    ("gtx 1660", Card(192, 10, 15.8)),
    ("gt 1030", Card(48, 1.1, 3.9)),
    ("v100", Card(900, 112, 15.8)),
    ("p100", Card(732, 19, 15.8)),
    ("tesla p40", Card(347, 12, 15.8)),
    ("tesla t4", Card(320, 65, 15.8)),
    ("rtx 6000 ada", Card(960, 182, 31.5)),
    ("rtx a6000", Card(768, 77, 31.5)),
    ("rtx a5000", Card(768, 56, 31.5)),
    ("rtx a4000", Card(448, 38, 31.5)),
    ("rtx pro 6000", Card(1792, 250, 63)),
    ("h200", Card(4800, 989, 63)),
    ("h100", Card(3350, 989, 63)),
    ("a10", Card(600, 125, 31.5)),
    ("a40", Card(696, 150, 31.5)),
    ("a100", Card(1555, 312, 31.5)),
    ("l40s", Card(864, 181, 31.5)),
    ("l4", Card(300, 60, 31.5)),
    ("rx 7900 xtx", Card(960, 61, 31.5)),
    ("rx 7900 xt", Card(800, 52, 31.5)),
    ("rx 7900 gre", Card(576, 46, 31.5)),
    ("rx 7800 xt", Card(624, 37, 31.5)),
    ("rx 7700 xt", Card(432, 35, 31.5)),
    ("rx 7600", Card(288, 22, 15.8)),
    ("rx 9070", Card(640, 97, 63)),
    ("rx 9060 xt", Card(320, 51, 63)),
    ("rx 6[89]00 xt", Card(512, 20, 31.5)),
    ("rx 6700 xt", Card(384, 13, 31.5)),
    ("w7900", Card(864, 61, 31.5)),
    ("mi300x", Card(5300, 1307, 63)),
    ("mi2[15]0x?", Card(1638, 181, 31.5)),
    ("mi100", Card(1229, 185, 31.5)),
    ("mi50", Card(1024, 27, 31.5)),
    ("arc a770", Card(560, 69, 31.5)),
    ("arc a750", Card(512, 60, 31.5)),
    ("arc b580", Card(456, 58, 15.8)),
    ("arc b570", Card(380, 46, 15.8)),
    # Parts of the processor: figures of the whole memory, which the processor reads too.
    ("gb10", _part(273, 100)),
    ("thor", _part(273, 125)),
    ("orin", _part(204.8, 10.6)),
    ("xavier", _part(136.5, 2.8)),
    ("m[1-5] ultra", _part(800, 42)),
    ("m5", _part(153, 16)),
    ("m4 max", _part(546, 34)),
    ("m4 pro", _part(273, 18)),
    ("m4", _part(120, 9)),
    ("m3 max", _part(400, 28)),
    ("m3 pro", _part(150, 13)),
    ("m[23] max", _part(400, 27)),
    ("m[12] pro", _part(200, 11)),
    ("m1 max", _part(400, 21)),
    ("m[23]", _part(100, 7)),
    ("m1", _part(68, 5)),
    ("8060s|gfx1151|strix halo", _part(256, 59)),
    ("8050s|8040s", _part(256, 47)),
    ("8[89]0m|gfx1150|strix", _part(120, 23)),
    ("7[468]0m|phoenix|gfx1103", _part(90, 16)),
    ("6[68]0m|rembrandt", _part(77, 7)),
    ("raphael|mendocino|gfx1036", _part(70, 1)),
    ("radeon(?: vega \\d+)? graphics|vega \\d+ graphics|renoir|cezanne|raven|picasso", _part(45, 3)),
    ("arc 1[34]0[vt]|lnl", _part(136, 16)),
    ("arc graphics|mtl|arl", _part(90, 9)),
    ("iris|uhd|hd graphics", _part(50, 3)),
    ("adreno", _part(135, 8)),
)
# A middling card of the last generations: what an unknown name is planned as.
ASSUMED = Card(400, 35, 12, known=False)


def is_integrated(name: str) -> bool:
    """Whether a device of this name is a part of the processor and has no memory of its own."""
    return figures_of(name).integrated


def figures_of(name: str) -> Card:
    """The table's figures of a device's name, else what is assumed."""
    plain = re.sub(r"[^a-z0-9]+", " ", re.sub(r"\((?:r|tm)\)", " ", name.lower()))
    return next((card for key, card in CARDS if _names(key, plain)), ASSUMED)


def _names(key: str, plain: str) -> bool:
    """Whether a key of the table stands in a name as whole words. Most keys are no pattern, and compiling each took
    a hundredth of a plan's time."""
    if key.replace(" ", "").isalnum():
        return f" {key} " in f" {plain} "
    return re.search(rf"\b(?:{key})\b", plain) is not None


def card_of(device: Device) -> Card:
    """The device's own figures where the record has them (measured ones), else the table's, else assumed."""
    figures = figures_of(device.name)
    return Card(
        device.bandwidth_gbps or figures.bandwidth_gbps,
        device.compute_tflops or figures.compute_tflops,
        device.link_gbps or figures.link_gbps,
        known=figures.known or bool(device.bandwidth_gbps and device.compute_tflops),
        name=device.name,
    )


def listed(device: Device) -> Device:
    """The device with the figures that a plan takes for it, for a record that says what was assumed."""
    card = card_of(device)
    return replace(
        device, bandwidth_gbps=card.bandwidth_gbps, compute_tflops=card.compute_tflops, link_gbps=card.link_gbps
    )
