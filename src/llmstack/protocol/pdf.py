"""The text of a PDF, for models that read text only.

Source: ISO 32000-1, sections 7.3 (objects), 7.4.4 (FlateDecode), 7.8.2 (content streams), 9.4.3 (text operators) and
9.10.3 (ToUnicode). Simple fonts and CID fonts with a ToUnicode map are read; a scan has no text, and that is said.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib

MOST_BYTES = 64 * 1024 * 1024  # of one stream, unpacked: a bomb stops here
MOST_TEXT = 2 * 1024 * 1024
_STREAM = re.compile(rb"<<(?P<dict>.{0,4000}?)>>\s*stream\r?\n", re.DOTALL)
_TOKEN = re.compile(
    rb"\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)|<[0-9A-Fa-f\s]*>|/[^\s/<>\[\]()]+|\[|\]|-?\d*\.?\d+|[A-Za-z'\"*]+",
    re.DOTALL,
)
_BFCHAR = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f\s]+)>")
_BFRANGE = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>")
_FONT = re.compile(rb"/(\w+)\s+(\d+)\s+\d+\s+R")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def text_of_pdf(data: str) -> str:
    """data: base64. The text page by page, or a sentence in brackets that says why there is none."""
    try:
        raw = base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError):
        return "[a document that could not be decoded]"
    if b"%PDF-" not in raw[:1024]:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "[a document that is neither PDF nor text]"
    if b"/Encrypt" in raw:
        return "[an encrypted PDF: its text cannot be read]"
    text = _text(raw)
    return text or "[a PDF without text: probably a scan]"


def _text(raw: bytes) -> str:
    contents: list[bytes] = []
    maps: dict[int, dict[int, str]] = {}
    objects: dict[int, bytes] = {}
    for match in re.finditer(rb"(\d+)\s+\d+\s+obj\b(.*?)(?=\bendobj\b)", raw, re.DOTALL):
        objects[int(match[1])] = match[2]
    for number, body in list(objects.items()):
        stream = _stream(body)
        if stream is None:
            continue
        if b"/ObjStm" in body[:4000]:
            objects.update(_unpacked(body, stream))
        elif b"begincmap" in stream:
            maps[number] = _cmap(stream)
        elif b"/Image" not in body[:2000] and re.search(rb"\bT[jJ]|['\"]\s", stream):
            contents.append(stream)
    fonts = _fonts(objects, maps)
    pages = [_page(content, fonts) for content in contents]
    return "\n\n".join(page for page in pages if page.strip())[:MOST_TEXT]


def _stream(body: bytes) -> bytes | None:
    found = _STREAM.search(body)
    if found is None:
        start = re.search(rb"stream\r?\n", body)
        if start is None:
            return None
        begin, head = start.end(), body[: start.start()]
    else:
        begin, head = found.end(), body[: found.end()]
    end = body.rfind(b"endstream")
    data = body[begin : end if end >= 0 else None]
    if b"/FlateDecode" in head or b"/Fl " in head:
        try:
            return zlib.decompressobj().decompress(data, MOST_BYTES)
        except zlib.error:
            return None
    return data if b"/Filter" not in head else None


def _unpacked(body: bytes, stream: bytes) -> dict[int, bytes]:
    """The objects of an object stream (section 7.5.7)."""
    first = re.search(rb"/First\s+(\d+)", body)
    if first is None:
        return {}
    start = int(first[1])
    numbers = [int(n) for n in re.findall(rb"\d+", stream[:start])]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    result: dict[int, bytes] = {}
    for place, (number, offset) in enumerate(pairs):
        end = pairs[place + 1][1] if place + 1 < len(pairs) else len(stream) - start
        result[number] = stream[start + offset : start + end]
    return result


def _cmap(stream: bytes) -> dict[int, str]:
    result: dict[int, str] = {}
    for section in re.findall(rb"beginbfchar(.*?)endbfchar", stream, re.DOTALL):
        for code, value in _BFCHAR.findall(section):
            result[int(code, 16)] = _utf16(value)
    for section in re.findall(rb"beginbfrange(.*?)endbfrange", stream, re.DOTALL):
        for low, high, value in _BFRANGE.findall(section):
            first, last, target = int(low, 16), int(high, 16), int(value, 16)
            for offset in range(min(last - first + 1, 65536)):
                result[first + offset] = chr(target + offset) if target + offset < 0x110000 else "�"
    return result


def _utf16(value: bytes) -> str:
    digits = re.sub(rb"\s", b"", value)
    return bytes.fromhex((digits if len(digits) % 2 == 0 else digits + b"0").decode()).decode("utf-16-be", "replace")


def _fonts(objects: dict[int, bytes], maps: dict[int, dict[int, str]]) -> dict[bytes, tuple[bool, dict[int, str]]]:
    """By resource name: whether codes have two bytes, and the map to unicode."""
    by_object: dict[int, tuple[bool, dict[int, str]]] = {}
    for number, body in objects.items():
        if b"/Font" in body and (b"/Type0" in body or b"/ToUnicode" in body or b"/Subtype" in body):
            link = re.search(rb"/ToUnicode\s+(\d+)", body)
            by_object[number] = (b"/Type0" in body, maps.get(int(link[1]), {}) if link else {})
    result: dict[bytes, tuple[bool, dict[int, str]]] = {}
    for body in objects.values():
        for name, number_text in _FONT.findall(body):
            number = int(number_text)
            if number in by_object:
                result.setdefault(name, by_object[number])
    return result


def _page(content: bytes, fonts: dict[bytes, tuple[bool, dict[int, str]]]) -> str:
    out: list[str] = []
    operands: list[bytes] = []
    font: tuple[bool, dict[int, str]] = (False, {})
    for found in _TOKEN.finditer(content):
        token = found.group()
        first = token[:1]
        if first in (b"(", b"<", b"/", b"[", b"]") or first.isdigit() or first in (b"-", b"."):
            operands.append(token)
            continue
        if token == b"Tf":
            names = [o for o in operands if o.startswith(b"/")]
            font = fonts.get(names[-1][1:], (False, {})) if names else font
        elif token in (b"Tj", b"'", b'"'):
            if token != b"Tj":
                out.append("\n")
            out += [_string(o, font) for o in operands[-1:]]
        elif token == b"TJ":
            for operand in operands:
                if operand[:1] in (b"(", b"<"):
                    out.append(_string(operand, font))
                elif operand[:1] not in (b"[", b"]", b"/") and float(operand) < -180:
                    out.append(" ")  # a wide step to the right is how most writers make a space
        elif token in (b"T*", b"ET"):
            out.append("\n")
        elif token in (b"Td", b"TD") and len(operands) >= 2:
            try:
                out.append("\n" if float(operands[-1]) != 0 else " ")
            except ValueError:
                out.append(" ")
        elif token == b"Tm":
            out.append("\n")
        operands = []
    text = re.sub(r"[ \t]+", " ", "".join(out))
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _string(token: bytes, font: tuple[bool, dict[int, str]]) -> str:
    if token.startswith(b"("):
        raw = re.sub(rb"\\([0-7]{1,3}|\r?\n|.)", _escape, token[1:-1], flags=re.DOTALL)
    elif token.startswith(b"<"):
        digits = re.sub(rb"\s", b"", token[1:-1])
        raw = bytes.fromhex((digits if len(digits) % 2 == 0 else digits + b"0").decode())
    else:
        return ""
    wide, table = font
    if wide:
        codes = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw) - 1, 2)]
        return "".join(table.get(code, "") for code in codes)
    if table:
        return "".join(table.get(code, chr(code)) for code in raw)
    return raw.decode("cp1252", "replace")


def _escape(found: re.Match[bytes]) -> bytes:
    value = found[1]
    if value[:1].isdigit():
        return bytes([int(value, 8) & 0xFF])
    if value.strip(b"\r\n") == b"":
        return b""
    return _ESCAPES.get(value, value)
