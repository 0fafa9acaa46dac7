"""What is wrong with an image before llama-server reads it, as far as its first and last bytes tell.

llama-server answers one image that it cannot read with 400 "Failed to load image or audio file", whichever it was; a
client keeps it in its history, so every later turn would fail as well. It decodes PNG, JPEG, GIF and BMP (stb_image),
WebP by an ffmpeg beside it (tools/mtmd/mtmd-helper.cpp). It fetches http(s) URLs itself, 10 MB and 10 s at most
(server-common.cpp: handle_media); what only this machine or its network can reach is not for a client to name.
"""

from __future__ import annotations

import binascii
import ipaddress
from urllib.parse import urlsplit

_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
_EDGE = 88  # base64 characters of the head and of the tail: whole groups of four, 66 bytes
KINDS = "PNG, JPEG, GIF, BMP or WebP"


def problem_of(media: str, data: str) -> str:
    """Why an image in base64 cannot be read; empty when nothing shows."""
    if not media.startswith("image/"):
        return f"{media or 'nothing'} is no image; {KINDS} can be read"
    if not data:
        return "it is empty"
    if len(data) % 4:
        return "its base64 is cut short"
    try:
        head = binascii.a2b_base64(data[:_EDGE], strict_mode=True)
        tail = binascii.a2b_base64(data[-_EDGE:], strict_mode=True)
    except binascii.Error:
        return "it is not base64"
    if not head.startswith(_HEADS) or (head.startswith(b"RIFF") and head[8:12] != b"WEBP"):
        return f"it is no {KINDS}"
    if head.startswith(b"\x89PNG") and b"IEND" not in tail and b"IEND" not in binascii.a2b_base64(data):
        return "the PNG is cut short"
    return ""


def problem_of_url(url: str) -> str:
    """Why the server is not asked to fetch an image; empty when it may."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "it is no URL"
    if parts.scheme not in ("http", "https") or not host:
        return "only http and https URLs are fetched; send the image as base64"
    return "it is an address of this machine or its network; send the image as base64" if _is_near(host) else ""


def _is_near(host: str) -> bool:
    host = host.rstrip(".").lower()
    if ("." not in host and ":" not in host) or host.endswith((".localhost", ".local", ".internal", ".lan")):
        return True  # a bare name, and also a number that resolvers read as an address
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return host.replace(".", "").isdigit() or host.startswith("0x")
