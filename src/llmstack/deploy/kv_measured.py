"""What `bench --quality` measured of a model's cache types, kept so that the next plan of this model knows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from llmstack.detect.model_file import file_key
from llmstack.paths import Home, write_private
from llmstack.plan.kv_quality import KvHarm

_MOST = 200


class KvMeasured(msgspec.Struct, frozen=True):
    """kinds: by cache type, the 95 % interval of the mean KL and the share of equal first choices. at: epoch s."""

    model: str
    kinds: dict[str, tuple[float, float, float]]
    at: float


def _file(home: Home) -> Path:
    return home.state / "kv-quality.json"


def _read(home: Home) -> tuple[KvMeasured, ...]:
    try:
        return msgspec.json.decode(_file(home).read_bytes(), type=tuple[KvMeasured, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def remember(home: Home, path: str, kinds: dict[str, tuple[float, float, float]]) -> None:
    """Replaces what was known of this file."""
    others = [one for one in _read(home) if one.model != file_key(path)]
    latest = [*others, KvMeasured(file_key(path), kinds, time.time())][-_MOST:]
    write_private(_file(home), msgspec.json.encode(latest))


def of_model(home: Home, path: str) -> Mapping[str, KvHarm]:
    """By cache type; empty where this file was never measured."""
    for one in _read(home):
        if one.model == file_key(path):
            source = f"measured here on {time.strftime('%Y-%m-%d', time.localtime(one.at))}"
            return {
                kind: KvHarm((low, high), same, source, measured=True) for kind, (low, high, same) in one.kinds.items()
            }
    return {}
