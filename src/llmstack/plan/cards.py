"""Known accelerators: memory bandwidth, dense 16-bit matrix rate, host link. Data, no logic but the look-up.

bandwidth in GB/s is the maker's published figure. compute in TFLOP/s is a quarter of the int8 rate without sparsity,
which is what quantised matrices use and on GeForce cards equals fp16 with fp32 sums; where there is no such unit, fp16
(Volta), fp32 (Pascal) or fp16 (other makers). link is one direction of the slot the card is made for, GB/s (PCIe 3 x16
= 15.8, 4 x16 = 31.5, 4 x8 = 15.8, 5 x16 = 63).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llmstack.hardware import Device


@dataclass(frozen=True, slots=True)
class Family:
    """What llama.cpp's kernels reach on a generation of cards, as shares of Card.compute_tflops.

    dense, experts: quantised matrices in prefill; a card's experts see few tokens each. attention: in prefill, over f16
    (a quantised cache is copied to f16 first). vec: values of a quantised cache, 10^9/s for each TFLOP/s, that the
    vector kernel of decode turns into numbers. launch: the fixed time of a block, in times of an RTX 4090's. per_core:
    compute_tflops over cores * clock * 2.
    """

    name: str
    dense: float
    experts: float
    attention: float
    vec: float
    launch: float
    per_core: float = 1.0


# Turing and later have integer matrix units that quantised products use (ggml_cuda_should_use_mmq, mmq.cu); Volta goes
# through cuBLAS in f16, Pascal through dp4a. Clocks and CUDA graphs make the launch: Pascal has no graphs.
BLACKWELL = Family("Blackwell", 0.82, 0.40, 0.70, 17.0, 1.0, 2.0)
ADA = Family("Ada", 0.82, 0.37, 0.75, 17.0, 1.0, 2.0)
AMPERE = Family("Ampere", 0.82, 0.35, 0.52, 17.0, 1.5, 2.0)
AMPERE_A100 = Family("Ampere (A100)", 0.50, 0.25, 0.40, 4.3, 1.6, 8.0)
HOPPER = Family("Hopper", 0.30, 0.20, 0.35, 4.6, 1.4, 7.4)
GB10 = replace(BLACKWELL, name="Blackwell beside Arm cores", launch=2.0)
TURING = Family("Turing", 0.75, 0.40, 0.40, 8.5, 1.5, 4.0)
VOLTA = Family("Volta", 0.33, 0.20, 0.30, 4.8, 1.7, 7.1)
PASCAL = Family("Pascal", 1.0, 0.50, 0.25, 25.0, 2.5)
OTHER = Family("another maker's, or unknown", 0.70, 0.45, 0.45, 15.0, 1.5)
# CUDA's compute capability, the first that is no higher: for names that the table does not know.
CAPABILITIES = (
    (10.0, BLACKWELL), (9.0, HOPPER), (8.9, ADA), (8.6, AMPERE), (8.0, AMPERE_A100), (7.5, TURING), (7.0, VOLTA),
    (0.0, PASCAL),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Card:
    bandwidth_gbps: float
    compute_tflops: float
    link_gbps: float
    known: bool = True
    name: str = ""
    integrated: bool = False
    family: Family = OTHER


def _part(bandwidth_gbps: float, compute_tflops: float, family: Family = OTHER) -> Card:
    """A part of the processor: its memory is the machine's RAM, and nothing crosses a bus to it."""
    return Card(bandwidth_gbps, compute_tflops, bandwidth_gbps / 2, integrated=True, family=family)


# Longest names first where one contains another: within a family the first pattern that matches wins.
_BOARDS: tuple[tuple[Family, tuple[tuple[str, float, float, float], ...]], ...] = (
    (BLACKWELL, (
        ("rtx 5090 laptop", 896, 64, 31.5),
        ("rtx 5080 laptop", 896, 49, 31.5),
        ("rtx 5070 ti laptop", 672, 38, 31.5),
        ("rtx 5070 laptop", 384, 30, 15.8),
        ("rtx 5060 laptop", 384, 24, 15.8),
        ("rtx 5090", 1792, 209, 63),
        ("rtx 5080", 960, 113, 63),
        ("rtx 5070 ti", 896, 88, 63),
        ("rtx 5070", 672, 62, 63),
        ("rtx 5060 ti", 448, 47, 31.5),
        ("rtx 5060", 448, 38, 31.5),
        ("rtx 5050", 320, 26, 31.5),
        ("rtx pro 6000", 1792, 250, 63),
        ("rtx pro 5000", 1344, 134, 63),
        ("rtx pro 4500", 896, 110, 63),
        ("rtx pro 4000 blackwell sff", 432, 48, 31.5),
        ("rtx pro 4000", 672, 94, 63),
        ("rtx pro 2000", 288, 34, 31.5),
        ("b200", 8000, 1125, 63),
    )),
    (ADA, (
        ("rtx 4090 laptop", 576, 66, 31.5),
        ("rtx 4080 laptop", 432, 49, 31.5),
        ("rtx 4070 laptop", 256, 31, 15.8),
        ("rtx 4060 laptop", 256, 23, 15.8),
        ("rtx 4050 laptop", 192, 18, 15.8),
        ("rtx 4090", 1008, 165, 31.5),
        ("rtx 4080 super", 736, 104, 31.5),
        ("rtx 4080", 717, 97, 31.5),
        ("rtx 4070 ti super", 672, 88, 31.5),
        ("rtx 4070 ti", 504, 80, 31.5),
        ("rtx 4070 super", 504, 71, 31.5),
        ("rtx 4070", 504, 58, 31.5),
        ("rtx 4060 ti", 288, 44, 15.8),
        ("rtx 4060", 272, 30, 15.8),
        ("rtx 6000 ada", 960, 182, 31.5),
        ("rtx 5000 ada", 576, 130, 31.5),
        ("rtx 4500 ada", 432, 79, 31.5),
        ("rtx 4000 sff ada", 280, 38, 31.5),
        ("rtx 4000 ada", 360, 53, 31.5),
        ("rtx 2000 ada", 224, 24, 15.8),
        ("l40s", 864, 181, 31.5),
        ("l40", 864, 181, 31.5),
        ("l20", 864, 119, 31.5),
        ("l4", 300, 60, 31.5),
    )),
    (AMPERE, (
        ("rtx 3080 ti laptop", 512, 47, 31.5),
        ("rtx 3080 laptop", 448, 38, 31.5),
        ("rtx 3070 laptop", 448, 32, 31.5),
        ("rtx 3060 laptop", 336, 21, 31.5),
        ("rtx 3050 laptop", 192, 11, 15.8),
        ("rtx 3090 ti", 1008, 80, 31.5),
        ("rtx 3090", 936, 71, 31.5),
        ("rtx 3080 ti", 912, 68, 31.5),
        ("rtx 3080", 760, 60, 31.5),
        ("rtx 3070 ti", 608, 44, 31.5),
        ("rtx 3070", 448, 41, 31.5),
        ("rtx 3060 ti", 448, 32, 31.5),
        ("rtx 3060", 360, 25, 31.5),
        ("rtx 3050", 224, 18, 15.8),
        ("rtx a6000", 768, 77, 31.5),
        ("rtx a5500", 768, 68, 31.5),
        ("rtx a5000", 768, 56, 31.5),
        ("rtx a4500", 640, 47, 31.5),
        ("rtx a4000", 448, 38, 31.5),
        ("rtx a2000", 288, 16, 31.5),
        ("a10g", 600, 70, 31.5),
        ("a10", 600, 62, 31.5),
        ("a40", 696, 75, 31.5),
        ("a16", 200, 9, 31.5),
        ("a2", 200, 9, 15.8),
    )),
    (AMPERE_A100, (
        ("a100", 1555, 156, 31.5),
        ("a30", 933, 82, 31.5),
    )),
    (HOPPER, (
        ("gh200", 4000, 495, 63),
        ("h200", 4800, 495, 63),
        ("h100 pcie", 2000, 378, 63),
        ("h100", 3350, 495, 63),
        ("h20", 4000, 74, 63),
    )),
    (TURING, (
        ("rtx 2080 ti", 616, 54, 15.8),
        ("rtx 2080 super", 496, 45, 15.8),
        ("rtx 2080", 448, 40, 15.8),
        ("rtx 2070 super", 448, 36, 15.8),
        ("rtx 2070", 448, 30, 15.8),
        ("rtx 2060", 336, 26, 15.8),
        ("titan rtx", 672, 65, 15.8),
        ("quadro rtx [68]000", 672, 65, 15.8),
        ("quadro rtx 5000", 448, 45, 15.8),
        ("quadro rtx 4000", 416, 28, 15.8),
        ("t4", 320, 32, 15.8),
    )),
    (VOLTA, (
        ("v100s", 1134, 130, 15.8),
        ("v100", 900, 112, 15.8),
        ("titan v", 653, 110, 15.8),
    )),
    (PASCAL, (
        ("gtx 1080 ti", 484, 11, 15.8),
        ("gtx 1080", 320, 9, 15.8),
        ("gtx 1070 ti", 256, 8, 15.8),
        ("gtx 1070", 256, 6.5, 15.8),
        ("gtx 1060", 192, 4.4, 15.8),
        ("gtx 1050 ti", 112, 2.1, 15.8),
        ("gtx 1660 (?:ti|super)", 336, 5.2, 15.8),
        ("gtx 1660", 192, 5, 15.8),
        ("gtx 1650", 128, 3, 15.8),
        ("gt 1030", 48, 1.1, 3.9),
        ("titan xp", 548, 12, 15.8),
        ("p100", 732, 10, 15.8),
        ("p40", 347, 12, 15.8),
        ("p4", 192, 5.5, 15.8),
        ("quadro p6000", 432, 12, 15.8),
    )),
    (OTHER, (
        ("rx 7900 xtx", 960, 61, 31.5),
        ("rx 7900 xt", 800, 52, 31.5),
        ("rx 7900 gre", 576, 46, 31.5),
        ("rx 7800 xt", 624, 37, 31.5),
        ("rx 7700 xt", 432, 35, 31.5),
        ("rx 7600", 288, 22, 15.8),
        ("rx 9070", 640, 97, 63),
        ("rx 9060 xt", 320, 51, 63),
        ("rx 6[89]00 xt", 512, 20, 31.5),
        ("rx 6700 xt", 384, 13, 31.5),
        ("w7900", 864, 61, 31.5),
        ("mi300x", 5300, 1307, 63),
        ("mi2[15]0x?", 1638, 181, 31.5),
        ("mi100", 1229, 185, 31.5),
        ("mi50", 1024, 27, 31.5),
        ("arc a770", 560, 69, 31.5),
        ("arc a750", 512, 60, 31.5),
        ("arc b580", 456, 58, 15.8),
        ("arc b570", 380, 46, 15.8),
    )),
)  # fmt: skip
_PARTS: tuple[tuple[str, Card], ...] = (
    ("gb10", _part(273, 100, GB10)),
    ("thor", _part(273, 125, GB10)),
    ("orin", _part(204.8, 10.6, AMPERE)),
    ("xavier", _part(136.5, 2.8, VOLTA)),
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
CARDS: tuple[tuple[str, Card], ...] = (
    *(
        (key, Card(bandwidth, compute, link, family=family))
        for family, boards in _BOARDS
        for key, bandwidth, compute, link in boards
    ),
    *_PARTS,
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


def family_of_capability(capability: float | None) -> Family:
    """For a name that the table does not know."""
    if capability is None:
        return OTHER
    return next(family for least, family in CAPABILITIES if capability >= least)


def card_of(device: Device) -> Card:
    """The device's own figures where the record has them (measured ones), else the table's, else assumed."""
    figures = figures_of(device.name)
    return Card(
        device.bandwidth_gbps or figures.bandwidth_gbps,
        device.compute_tflops or figures.compute_tflops,
        device.link_gbps or figures.link_gbps,
        known=figures.known or bool(device.bandwidth_gbps and device.compute_tflops),
        name=device.name,
        family=figures.family if figures.known else family_of_capability(device.compute_capability),
    )


def listed(device: Device) -> Device:
    """The device with the figures that a plan takes for it, for a record that says what was assumed."""
    card = card_of(device)
    return replace(
        device, bandwidth_gbps=card.bandwidth_gbps, compute_tflops=card.compute_tflops, link_gbps=card.link_gbps
    )
