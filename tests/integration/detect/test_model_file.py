"""What is no regular file, on a real file system."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from llmstack.detect.model_file import open_model
from llmstack.errors import BadInput


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "socket"])
def test_fault_11_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "special"
    held = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "device":
        target = Path("/dev/zero")
    elif kind == "folder":
        target.mkdir()
    else:
        held.bind(str(target))
    link = tmp_path / "model.gguf"
    link.symlink_to(target)
    with held, pytest.raises(BadInput, match="not a model file"):
        open_model(link)
