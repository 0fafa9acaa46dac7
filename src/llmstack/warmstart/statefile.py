"""The token ids at the head of a state that llama-server saved.

Layout (llama-context.cpp: state_seq_save_file; tools/server: server_tokens): magic, version and a count, 32 bits each,
then `count` words. A server packs its tokens: the word -1, a version, the number of tokens, the ids, and what stands
for media. Older builds wrote the bare ids.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path

MAGIC = b"qsgg"  # LLAMA_STATE_SEQ_MAGIC, 'ggsq', little-endian
MOST = 4 * 1024 * 1024  # tokens; no context is that long
_PACKED = 0xFFFFFFFF


def read_tokens(path: Path) -> array[int] | None:
    """None for a file that is no such state, or one whose layout is not known. Raises OSError."""
    with path.open("rb") as stream:
        head = stream.read(12)
        if len(head) < 12 or head[:4] != MAGIC:
            return None
        count = struct.unpack("<I", head[8:])[0]
        if count > MOST:
            return None
        data = stream.read(count * 4)
    if len(data) != count * 4:
        return None
    words = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    if not words or words[0] != _PACKED:
        return words
    if count < 3 or words[2] > count - 3:
        return None
    return words[3 : 3 + words[2]]
