"""Models made for measuring: a real engine's reader takes them, with the shape that was asked for."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from llmstack.bench.calibrate import PROBES
from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.detect.model_file import open_model
from llmstack.gguf import GgmlType
from llmstack.plan import read_facts

SMALL = ProbeShape("small", layers=2, d=256, heads=4, kv_heads=2, n_ff=512, vocab=512)
EXPERTS = ProbeShape("experts", layers=2, d=256, heads=4, kv_heads=2, n_ff=256, vocab=512, experts=8, experts_used=2)


@pytest.mark.parametrize("shape", [SMALL, EXPERTS])
def test_the_reference_reader_finds_every_tensor_whole(shape: ProbeShape, tmp_path: Path) -> None:
    path = write_probe(shape, tmp_path / "m.gguf")
    tensors = gguf.GGUFReader(path).tensors
    assert {t.name for t in tensors} >= {"token_embd.weight", "output.weight", "blk.1.attn_q.weight"}
    assert all(t.data.nbytes == t.n_bytes for t in tensors)


def test_the_planner_reads_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    facts = read_facts(open_model(write_probe(EXPERTS, tmp_path / "m.gguf")).header)
    assert (facts.n_layer, facts.n_embd, facts.n_expert, facts.n_expert_used) == (2, 256, 8, 2)


def test_no_weight_is_infinite_or_not_a_number(tmp_path: Path) -> None:
    shape = ProbeShape("q8", layers=1, d=256, heads=4, kv_heads=2, n_ff=256, vocab=512, weights=GgmlType.Q8_0)
    [tensor] = [t for t in gguf.GGUFReader(write_probe(shape, tmp_path / "m.gguf")).tensors if "attn_q.w" in t.name]
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    assert abs(values).max() < 1 and values.std() > 0


def test_the_embeddings_rows_differ(tmp_path: Path) -> None:
    path = write_probe(SMALL, tmp_path / "m.gguf")
    [embedding] = [t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight"]
    assert len({bytes(row) for row in embedding.data}) == len(embedding.data)


def test_the_models_of_a_calibration_are_small() -> None:
    weights = sum(3 * shape.layers * shape.d * shape.n_ff * max(shape.experts, 1) for shape in PROBES)
    assert weights * 4.5 / 8 < 500e6  # bytes of feed-forward weights in Q4_K, all four
