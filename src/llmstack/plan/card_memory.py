"""What a card of a name has of memory, for a plan of a card that is not here. Data, and the look-up of a name.

GiB, by a name as `plan.cards` spells it; where a card was sold with several amounts, the most common first: the others
are asked for by `RTX 4060 Ti 16GB`.
"""

from __future__ import annotations

import difflib
import re

from llmstack.commands import again
from llmstack.errors import BadInput
from llmstack.hardware import Device
from llmstack.plan.cards import figures_of

_NVIDIA: dict[str, tuple[float, ...]] = {
    "rtx 5090 laptop": (24,), "rtx 5080 laptop": (16,), "rtx 5070 ti laptop": (12,), "rtx 5070 laptop": (8,),
    "rtx 5060 laptop": (8,), "rtx 5090": (32,), "rtx 5080": (16,), "rtx 5070 ti": (16,), "rtx 5070": (12,),
    "rtx 5060 ti": (16, 8), "rtx 5060": (8,), "rtx 5050": (8,), "rtx pro 6000": (96,), "rtx pro 5000": (48, 72),
    "rtx pro 4500": (32,), "rtx pro 4000": (24,), "rtx pro 2000": (16,), "b200": (180,),
    "rtx 4090 laptop": (16,), "rtx 4080 laptop": (12,), "rtx 4070 laptop": (8,), "rtx 4060 laptop": (8,),
    "rtx 4050 laptop": (6,), "rtx 4090": (24,), "rtx 4080 super": (16,), "rtx 4080": (16,),
    "rtx 4070 ti super": (16,), "rtx 4070 ti": (12,), "rtx 4070 super": (12,), "rtx 4070": (12,),
    "rtx 4060 ti": (8, 16), "rtx 4060": (8,), "rtx 6000 ada": (48,), "rtx 5000 ada": (32,), "rtx 4500 ada": (24,),
    "rtx 4000 ada": (20,), "rtx 2000 ada": (16,), "l40s": (48,), "l40": (48,), "l20": (48,), "l4": (24,),
    "rtx 3080 ti laptop": (16,), "rtx 3080 laptop": (8, 16), "rtx 3070 laptop": (8,), "rtx 3060 laptop": (6,),
    "rtx 3050 laptop": (4, 6), "rtx 3090 ti": (24,), "rtx 3090": (24,), "rtx 3080 ti": (12,), "rtx 3080": (10, 12),
    "rtx 3070 ti": (8,), "rtx 3070": (8,), "rtx 3060 ti": (8,), "rtx 3060": (12, 8), "rtx 3050": (8, 6),
    "rtx a6000": (48,), "rtx a5500": (24,), "rtx a5000": (24,), "rtx a4500": (20,), "rtx a4000": (16,),
    "rtx a2000": (12, 6), "a10g": (24,), "a10": (24,), "a40": (48,), "a16": (16,), "a2": (16,),
    "a100": (80, 40), "a30": (24,), "gh200": (96, 144), "h200": (141,), "h100": (80,), "h20": (96,),
    "rtx 2080 ti": (11,), "rtx 2080 super": (8,), "rtx 2080": (8,), "rtx 2070 super": (8,), "rtx 2070": (8,),
    "rtx 2060": (6, 12), "titan rtx": (24,), "t4": (16,), "v100s": (32,), "v100": (16, 32), "titan v": (12,),
    "gtx 1080 ti": (11,), "gtx 1080": (8,), "gtx 1070 ti": (8,), "gtx 1070": (8,), "gtx 1060": (6, 3),
    "gtx 1050 ti": (4,), "gtx 1660 ti": (6,), "gtx 1660 super": (6,), "gtx 1660": (6,), "gtx 1650": (4,),
    "titan xp": (12,), "p100": (16, 12), "p40": (24,), "p4": (8,),
}  # fmt: skip
_OTHERS: dict[str, tuple[float, ...]] = {
    "rx 7900 xtx": (24,), "rx 7900 xt": (20,), "rx 7900 gre": (16,), "rx 7800 xt": (16,), "rx 7700 xt": (12,),
    "rx 7600": (8,), "rx 9070": (16,), "rx 9060 xt": (16, 8), "rx 6900 xt": (16,), "rx 6800 xt": (16,),
    "rx 6700 xt": (12,), "w7900": (48,), "mi300x": (192,), "mi250x": (64,), "mi210": (64,), "mi100": (32,),
    "mi50": (16, 32), "arc a770": (16, 8), "arc a750": (8,), "arc b580": (12,), "arc b570": (10,),
}  # fmt: skip
MEMORY = _NVIDIA | _OTHERS
_SPOKEN = re.compile(r"\b(\d+)\s*(?:gb|gib|g)\b", re.IGNORECASE)


def card_named(name: str, vram_mib: int | None = None) -> Device:
    """The card that people call so (`4070`, `RTX 4070`, `NVIDIA GeForce RTX 4060 Ti 16GB`), empty.

    vram_mib: its memory where that is said. Raises BadInput for a name that no table has.
    """
    spoken = _SPOKEN.search(name)
    plain = " ".join(re.sub(r"[^a-z0-9]+", " ", _SPOKEN.sub(" ", name).lower()).split())
    plain = re.sub(r"\b(rtx|gtx|rx|ti)(?=\d)|(?<=\d)(ti|xtx|xt)\b", r"\1 \2", plain).replace("  ", " ").strip()
    key = _key(plain)
    if key is None:
        near = difflib.get_close_matches(plain, MEMORY, 3, 0.5)
        raise BadInput(
            f"{name} is no card that is known here",
            why=f"near are {', '.join(map(shown, near))}" if near else "",
            next=again(None, "--gpu", shown(near[0])) if near else again(None, "--vram", "12GiB"),
        )
    sizes = MEMORY[key]
    if spoken is not None and vram_mib is None and float(spoken[1]) not in sizes:
        known = " or ".join(f"{size:g} GiB" for size in sizes)
        raise BadInput(
            f"there is no {shown(key)} with {spoken[1]} GiB: it has {known}", next=again(None, "--gpu", shown(key))
        )
    gib = float(spoken[1]) if spoken is not None else sizes[0]
    mib = vram_mib if vram_mib is not None else round(gib * 1024)
    return Device(shown(key), "CUDA" if key in _NVIDIA else "Vulkan", mib, mib)


def _key(plain: str) -> str | None:
    """The longest name of the table that stands in the words; a number alone is one where one card has it."""
    inside = [key for key in MEMORY if f" {key} " in f" {plain} "]
    if inside:
        return max(inside, key=len)
    ends = [key for key in MEMORY if plain and key.split(" ", 1)[-1] == plain]
    return ends[0] if len(ends) == 1 else None


def shown(key: str) -> str:
    """`rtx 4070 ti` as it is written on the box."""
    small = {
        "ti": "Ti",
        "super": "SUPER",
        "laptop": "Laptop GPU",
        "titan": "TITAN",
        "ada": "Ada",
        "pro": "PRO",
        "arc": "Arc",
    }
    words = " ".join(small.get(word, word.upper()) for word in key.split())
    maker = "NVIDIA GeForce" if re.match(r"(?:rtx [2-5]0\d0|gtx)", key) else "NVIDIA" if key in _NVIDIA else ""
    maker = maker or ("Intel" if key.startswith("arc") else "AMD Radeon" if key.startswith("rx") else "AMD")
    name = f"{maker} {words}"
    assert figures_of(name).known, f"plan.cards has no figures of {name}"
    return name
