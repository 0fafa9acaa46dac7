"""What is taken out of an archive, and what is refused before a byte of it is written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.errors import NotSo
from llmstack.release import unpack as module
from llmstack.release.unpack import unpack


def packed(path: Path, *entries: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def test_programs_libraries_and_their_links_come_out_flat_and_deeper_files_stay(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "a.tar.gz",
        ("llama-b1/llama-server", b"program"), ("llama-b1/libggml.so.0.9", b"library"),
        link("llama-b1/libggml.so", "libggml.so.0.9"),
        ("llama-b1/licenses/MIT", b"text"),
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    assert unpack(archive, out) == 3
    assert sorted(file.name for file in out.iterdir()) == ["libggml.so", "libggml.so.0.9", "llama-server"]
    assert (out / "libggml.so").read_bytes() == b"library"
    assert (out / "libggml.so.0.9").stat().st_mode & 0o111


def test_of_the_cuda_libraries_archive_only_libraries_are_taken(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "a.tar.gz", ("cudart/libcudart.so.13", b"l"), ("cudart/llama-server", b"another program")
    )
    (tmp_path / "out").mkdir()
    assert unpack(archive, tmp_path / "out", libraries_only=True) == 1
    assert not (tmp_path / "out" / "llama-server").exists()


@pytest.mark.parametrize(
    "entry",
    [
        ("../evil", b"x"), ("llama-b1/../../evil", b"x"), ("/etc/evil", b"x"), ("llama-b1/a b", b"x"),
        ("llama-b1/.hidden", b"x"), ("other/llama-server", b"x"),
        link("llama-b1/x", "../../evil"), link("llama-b1/x", "/etc/passwd"),
        link("llama-b1/x", "llama-server", tarfile.LNKTYPE),
        link("llama-b1/x", "", tarfile.FIFOTYPE), link("llama-b1/x", "", tarfile.CHRTYPE),
    ],
)  # fmt: skip
def test_what_leads_out_of_the_folder_or_is_no_file_is_refused_and_nothing_is_written(
    tmp_path: Path, entry: tuple[str, bytes] | tarfile.TarInfo
) -> None:
    archive = packed(tmp_path / "a.tar.gz", ("llama-b1/llama-server", b"program"), entry)
    out = tmp_path / "box" / "out"
    out.mkdir(parents=True)
    with pytest.raises(NotSo, match="refused"):
        unpack(archive, out)
    assert list(out.iterdir()) == []
    assert not (tmp_path / "box" / "evil").exists() and not (tmp_path / "evil").exists()


def test_an_archive_that_is_cut_off_is_told_so(tmp_path: Path) -> None:
    import random

    whole = packed(tmp_path / "a.tar.gz", ("llama-b1/llama-server", random.Random(1).randbytes(200_000)))
    whole.write_bytes(whole.read_bytes()[:100_000])
    (tmp_path / "out").mkdir()
    with pytest.raises(NotSo, match="cannot be unpacked"):
        unpack(whole, tmp_path / "out")


def test_more_members_or_bytes_than_a_release_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path / "a.tar.gz", *((f"llama-b1/f{n}", b"xxxx") for n in range(20)))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(module, "MOST_MEMBERS", 10)
    with pytest.raises(NotSo, match="members"):
        unpack(archive, tmp_path / "out")
    monkeypatch.setattr(module, "MOST_MEMBERS", 100)
    monkeypatch.setattr(module, "MOST_BYTES", 50)
    with pytest.raises(NotSo, match="GiB"):
        unpack(archive, tmp_path / "out")


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(
        st.text(alphabet=st.sampled_from("ab./\\ -_\x00é"), min_size=1, max_size=24).filter(lambda n: "\x00" not in n),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_the_names_nothing_is_written_outside(names: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        box = Path(root) / "box"
        (box / "out").mkdir(parents=True)
        archive = packed(Path(root) / "a.tar.gz", *((name, b"x") for name in names))
        try:
            unpack(archive, box / "out")
        except NotSo:
            assert list((box / "out").iterdir()) == []
        assert [path.name for path in box.iterdir()] == ["out"]
        assert sorted(path.name for path in Path(root).iterdir()) == ["a.tar.gz", "box"]
        assert all(path.is_file() and path.parent == box / "out" for path in (box / "out").rglob("*"))
