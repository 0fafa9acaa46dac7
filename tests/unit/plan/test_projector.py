"""An image encoder's memory from its header. The reported figures are those of llama-server 11434 on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.detect.model_file import open_model
from llmstack.gguf import GgufError
from llmstack.plan import ProjectorFacts, read_projector
from support import projectors
from support.models import write_model
from support.projectors import Shape, small, write_projector

MIB = 1 << 20
REPORTED = {  # weights, and the compute buffer that is reserved at the start, MiB; of a text model 128 wide
    "gemma3": (805.16, 121.25),
    "idefics3": (169.59, 21.00),
    "mlp": (580.92, 19.32),
    "pixtral": (777.63, 64.31),
    "qwen2vl_merger": (1256.18, 267.08),
    "qwen2.5vl_merger": (1257.64, 704.79),
    "qwen3vl_merger": (840.72, 248.10),
    "gemma4v": (295.51, 101.27),
    "internvl": (583.63, 24.02),
}


def read(shape: Shape, folder: Path) -> ProjectorFacts:
    path = write_projector(shape, folder / "mmproj.gguf")
    return read_projector(open_model(path, takes="projector").header, path=str(path))


@pytest.mark.parametrize("shape", projectors.ALL, ids=lambda shape: shape.kind)
def test_weights_and_buffers_are_those_that_llama_server_reported(shape: Shape, tmp_path: Path) -> None:
    facts = read(shape.sized(text=128), tmp_path)
    weights, compute = REPORTED[shape.kind]
    assert facts.known and facts.output == 128
    assert facts.weights / MIB == pytest.approx(weights, abs=0.01)
    over = 0.2 if shape.kind == "internvl" else 0.005
    assert compute * 0.995 <= facts.compute_at_start / MIB <= compute * (1 + over)


@pytest.mark.parametrize("shape", projectors.ALL, ids=lambda shape: shape.kind)
def test_the_largest_image_takes_at_least_what_is_reserved_at_the_start(shape: Shape, tmp_path: Path) -> None:
    facts = read(shape, tmp_path)
    assert facts.compute >= facts.compute_at_start > 0 and facts.tokens > 0


def test_small_images_that_are_read_together_take_as_much_as_all_of_them(tmp_path: Path) -> None:
    facts = read(projectors.INTERNVL, tmp_path)
    assert facts.tokens == 256 and facts.compute > 3.9 * facts.compute_at_start


def test_an_image_of_most_pixels_is_counted_not_that_of_the_warm_up(tmp_path: Path) -> None:
    assert read(projectors.QWEN3VL, tmp_path).tokens == 4096


def test_a_kind_that_is_not_described_is_planned_with_room_to_spare(tmp_path: Path) -> None:
    shape = projectors.PIXTRAL.sized()
    known = read(shape, tmp_path)
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(path.read_bytes().replace(b"pixtral", b"sixtral"))
    facts = read_projector(open_model(path, takes="projector").header, path=str(path))
    assert not facts.known and facts.output == known.output and facts.compute > known.compute


def test_a_model_is_no_image_encoder(tmp_path: Path) -> None:
    header = open_model(write_model("dense", tmp_path / "a.gguf")).header
    with pytest.raises(GgufError, match="a model of the architecture qwen3, not an image encoder"):
        read_projector(header)


def test_one_that_only_hears_is_known_as_such(tmp_path: Path) -> None:
    path = write_projector(small(), tmp_path / "mmproj.gguf")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"has_vision_encoder", b"has_audioo_encoder"))
    assert not read_projector(open_model(path, takes="projector").header).sees


def test_a_file_without_the_sizes_is_refused_by_the_key_it_lacks(tmp_path: Path) -> None:
    path = write_projector(small(), tmp_path / "mmproj.gguf")
    path.write_bytes(path.read_bytes().replace(b"clip.vision.patch_size", b"clip.vision.putch_size"))
    with pytest.raises(GgufError, match=r"lacks clip\.vision\.patch_size"):
        read_projector(open_model(path, takes="projector").header)
