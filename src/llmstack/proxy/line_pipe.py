"""The proxy's own lines on their way to stderr: whoever reads them there may stop reading, and the loop goes on.

A pipe that is full blocks a write until somebody reads. So a thread of its own writes; what comes while QUEUED lines
wait is lost, and counted (llmstack_log_lines_lost).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

QUEUED = 10_000
CLOSE_S = 2.0


class LinePipe:
    """A text stream as far as Reporter needs one. on_loss() is called for each line that is lost."""

    def __init__(self, descriptor: int, on_loss: Callable[[], None] = lambda: None) -> None:
        self.on_loss = on_loss
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(QUEUED)
        self._thread = threading.Thread(target=self._run, daemon=True, name="log")
        self._thread.start()

    def write(self, text: str) -> int:
        try:
            self._lines.put_nowait(text.encode("utf-8", "backslashreplace"))
        except queue.Full:
            self.on_loss()
        return len(text)

    def flush(self) -> None:
        """It is on its way."""

    def close(self) -> None:
        """Waits for what is on its way, but not for a reader that does not read."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (data := self._lines.get()) is not None:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except OSError:  # a disk that is full, a pipe that nobody holds any more
                    self.on_loss()
                    break
