"""Small images, made on the spot."""

from __future__ import annotations

import random
import struct
import zlib


def png(width: int = 64, height: int = 64, seed: int = 1) -> bytes:
    """A colour that runs across the picture; another seed is another one."""
    rng = random.Random(seed)
    across, down = rng.randrange(1, 7), rng.randrange(1, 7)
    rows = b"".join(
        b"\0" + bytes((x * across + y * down * channel) & 255 for x in range(width) for channel in range(3))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def gif(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """One pixel."""
    palette = bytes(colour) + bytes(3)
    image = b",\0\0\0\0\1\0\1\0\0" + b"\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0" + palette + image + b";"


def bmp(size: int = 16) -> bytes:
    rows = bytes(range(48)) * size
    return struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, size, size, 1, 24, 0, len(rows), 2835, 2835, 0, 0
    ) + rows  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(size: int = 16) -> bytes:
    """A grey square: every block is its mean, in one bit, and the end of the block, in another."""
    blocks = (size // 8) ** 2
    table = b"\x01" + bytes(15) + b"\0"  # one code of one bit, for the value 0
    parts = (
        _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        _segment(0xDB, b"\0" + b"\1" * 64),
        _segment(0xC0, struct.pack(">BHHB", 8, size, size, 1) + b"\1\x11\0"),
        _segment(0xC4, b"\0" + table),
        _segment(0xC4, b"\x10" + table),
        _segment(0xDA, b"\1\1\0\0\x3f\0"),
    )
    return b"\xff\xd8" + b"".join(parts) + bytes(blocks * 2 // 8 or 1) + b"\xff\xd9"


WEBP = bytes.fromhex("524946461a000000574542505650384c0d0000002f0000001007101111888808fe0700")  # one pixel


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
