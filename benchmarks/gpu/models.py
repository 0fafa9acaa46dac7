"""Files of real shapes and types whose weights are made up: what a card does with them depends on nothing else.

Those of the suite are megabytes of the same kinds. A file is written when it is needed, and goes when the disk is
short.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.gpu.bed import Bed
from benchmarks.gpu.results import Cell, Row
from llmstack.bench.probe_model import ProbeShape, bytes_vocabulary, write_made_up, write_probe
from llmstack.demo.template import CHAT_TEMPLATE
from llmstack.detect.model_file import open_model
from llmstack.gguf import GgmlType
from llmstack.gguf.writer import header
from llmstack.plan import ModelFacts, read_facts
from support.models import write_model
from support.planner import shapes
from support.planner.shapes import Shape

SPARE = 1.3  # of a file's size must be free on the disk before it is written
WRITES_MIB_S = 300  # of a slow disk


@dataclass(frozen=True, slots=True)
class Model:
    """seen: the rates are fitted to it; the others are predicted first and measured then."""

    name: str
    full: Callable[[], Shape]
    small: Callable[[Path], Path]
    seen: bool = True


def _probe(**fields: int) -> Callable[[Path], Path]:
    base = {"layers": 4, "d": 256, "heads": 4, "kv_heads": 2, "n_ff": 512, "vocab": 1024}
    return lambda path: write_probe(ProbeShape(path.stem, **{**base, **fields}), path)  # type: ignore[arg-type]


MODELS = (
    Model("dense-8b", shapes.llama_8b, partial(write_model, "dense")),
    Model("experts-30b", shapes.qwen3moe_30b, _probe(n_ff=256, experts=16, experts_used=4)),
    Model("hybrid-27b", partial(shapes.qwen35_27b, mtp=True), partial(write_model, "hybrid")),
    Model("window-12b", shapes.gemma3_12b, partial(write_model, "window")),
    Model("dense-14b", shapes.qwen2_14b, _probe(layers=6)),
    Model("experts-35b", partial(shapes.qwen35moe_35b, mtp=True), _probe(n_ff=256, experts=8, experts_used=2)),
    Model("dense-24b", shapes.devstral_24b, _probe(layers=8), seen=False),
    Model("experts-20b", shapes.gpt_oss_20b, _probe(n_ff=256, experts=4, experts_used=2), seen=False),
    Model("window-26b", shapes.gemma4_26b_a4b, _probe(), seen=False),
)


def write_shape(shape: Shape, path: Path) -> Path:
    """The shape with a vocabulary of its size and made-up weights, whole or not at all."""
    if path.exists():
        return path
    size: int = shape.metadata[f"{shape.arch}.vocab_size"].value  # type: ignore[union-attr, assignment]
    keys = {key: value for key, value in shape.metadata.items() if not key.startswith("tokenizer.")}
    words = {**bytes_vocabulary(size), "tokenizer.chat_template": CHAT_TEMPLATE}
    data, total = header({**keys, **words}, shape.tensors)
    partial_file = path.with_suffix(".partial")
    chunks: dict[GgmlType, bytes] = {}
    with partial_file.open("wb") as stream:
        stream.write(data)
        for tensor in shape.tensors:
            write_made_up(stream, tensor, chunks)
        stream.truncate(total)
    partial_file.replace(path)
    return path


def path_of(bed: Bed, model: Model) -> Path:
    return bed.out / "models" / f"{model.name}.gguf"


def bytes_of(bed: Bed, model: Model) -> int:
    """Of the file, before it is written."""
    return 64 << 20 if bed.small else sum(tensor.size for tensor in model.full().tensors)


@contextmanager
def ready(bed: Bed, model: Model) -> Iterator[ModelFacts]:
    """Its facts, while its file is there. Others' files go first where the disk is short."""
    path = path_of(bed, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        need = int(bytes_of(bed, model) * SPARE)
        for old in sorted(path.parent.glob("*.gguf"), key=lambda file: file.stat().st_mtime):
            if shutil.disk_usage(path.parent).free >= need:
                break
            old.unlink()
        model.small(path) if bed.small else write_shape(model.full(), path)
    yield read_facts(open_model(path, cache=bed.home.cache).header, path=str(path))


def chosen(bed: Bed) -> list[Model]:
    """Those that were asked for and that this machine can hold."""
    return [model for model in MODELS if (not bed.only or model.name in bed.only) and _fits(bed, model)]


def _fits(bed: Bed, model: Model) -> bool:
    """Whether this machine can hold it at all, on the device and in RAM together, and its disk."""
    size = bytes_of(bed, model) >> 20
    device = bed.device
    room = (device.total_mib if device is not None else 0) + bed.hardware.ram.total_mib
    disk = shutil.disk_usage(bed.out)
    return size * SPARE < room and size * SPARE < disk.total >> 20


def cells(bed: Bed) -> Iterator[Cell]:
    """As many as the disk holds at once, written and read by the engine."""

    def take(model: Model) -> Row:
        with ready(bed, model) as facts:
            return {"mib": Path(facts.path).stat().st_size >> 20, "arch": facts.arch, "layers": facts.n_layer_all}

    for model in chosen(bed):
        yield Cell(model.name, partial(take, model), 10 + bytes_of(bed, model) / (WRITES_MIB_S << 20))
