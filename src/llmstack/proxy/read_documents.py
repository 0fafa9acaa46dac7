"""The child that reads documents: `python -m llmstack.proxy.read_documents MEMORY_BYTES CPU_SECONDS`.

A PDF is a program of a stranger's: it may run for ever or fill the memory. Here that ends this process and nothing
else. On stdin and stdout: an eight-byte length, then the bytes; base64 goes in, text comes out, one for one.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import struct
import sys
from typing import BinaryIO

from llmstack.protocol import pdf

LENGTH = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def framed(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def bound_process(memory: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes no file
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(head)) if len(head) == LENGTH.size else None


def main(argv: list[str]) -> int:
    bound_process(int(argv[0]), int(argv[1]))
    while (data := _read(sys.stdin.buffer)) is not None:
        text = pdf.text_of_pdf(data.decode("ascii", "replace"))
        sys.stdout.buffer.write(framed(text.encode("utf-8", "replace")))
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
