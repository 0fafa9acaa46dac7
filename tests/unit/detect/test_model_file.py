"""Opening a model: what is no regular file is refused, shards are found, a swapped file is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmstack.detect.model_file import open_model
from llmstack.errors import BadInput
from llmstack.gguf import GgmlType, GgufError
from llmstack.gguf.writer import U32, Tensor, Value, write


def model(path: Path, extra: dict[str, Value] | None = None, name: str = "t") -> Path:
    meta: dict[str, Value] = {"general.architecture": "qwen3", **(extra or {})}
    path.write_bytes(b"".join(write(meta, [Tensor(name, (8,), GgmlType.F32, bytes(32))])))
    return path


def split(folder: Path, count: int, skip: int = -1) -> Path:
    for number in range(count):
        if number != skip:
            meta: dict[str, Value] = {"split.no": U32(number), "split.count": U32(count)}
            model(folder / f"m-{number + 1:05d}-of-{count:05d}.gguf", meta, f"t{number}")
    return folder / f"m-00001-of-{count:05d}.gguf"


def test_a_model_is_opened_with_its_size_and_identity(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    found = open_model(path)
    assert (found.header.arch, found.size_bytes, found.path) == ("qwen3", path.stat().st_size, path)
    found.check_unchanged()


def test_a_symbolic_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(model(tmp_path / "blob"))
    assert open_model(tmp_path / "link.gguf").header.arch == "qwen3"


def test_fault_9_a_missing_shard_is_named(tmp_path: Path) -> None:
    first = split(tmp_path, 3, skip=1)
    with pytest.raises(GgufError, match=r"m-00002-of-00003\.gguf"):
        open_model(first)


def test_a_split_model_is_opened_by_its_first_shard_only(tmp_path: Path) -> None:
    first = split(tmp_path, 2)
    found = open_model(first)
    assert [t.name for t in found.header.tensors] == ["t0", "t1"]
    assert len(found.identity) == 2
    with pytest.raises(GgufError, match="not the first shard"):
        open_model(found.paths[1])


def test_a_shard_under_another_name_is_refused(tmp_path: Path) -> None:
    first = split(tmp_path, 2)
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(GgufError, match="its name does not say so"):
        open_model(tmp_path / "renamed.gguf")


def test_fault_10_a_file_swapped_after_the_plan_is_noticed(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    found = open_model(path)
    other = model(tmp_path / "other.gguf")
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    other.replace(path)  # same size, same time, another file
    with pytest.raises(BadInput, match="changed after it was planned"):
        found.check_unchanged()
    path.unlink()
    with pytest.raises(BadInput, match="gone"):
        found.check_unchanged()


def test_a_missing_file_and_a_strange_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no file .*\\x1b"):
        open_model(tmp_path / "a\x1b[0m.gguf")


def test_a_parsed_header_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    cache = tmp_path / "cache"
    first = open_model(path, cache=cache)
    kept = list((cache / "headers").iterdir())
    assert len(kept) == 1
    assert open_model(path, cache=cache) == first
    kept[0].write_bytes(b"torn")
    assert open_model(path, cache=cache) == first
    model(path, {"qwen3.block_count": U32(9)})
    assert open_model(path, cache=cache).header.values["qwen3.block_count"] == 9
