"""Names of split models: NAME-00001-of-00003.gguf (llama_split_path, llama.cpp's src/llama.cpp). Names only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SHARDS = 1000
_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShardName:
    """number counts from 1. stem: what all shards have in common, their folder included where it was given."""

    stem: str
    number: int
    count: int

    def all(self) -> Iterator[str]:
        """Every shard's name, the first one first; of an absurd count only the first MAX_SHARDS."""
        for number in range(1, min(self.count, MAX_SHARDS) + 1):
            yield f"{self.stem}-{number:05d}-of-{self.count:05d}.gguf"


def shard_name(file: str) -> ShardName | None:
    """None for the name of a file that is no shard."""
    match = _NAME.fullmatch(file)
    return ShardName(match["stem"], int(match["number"]), int(match["count"])) if match is not None else None
