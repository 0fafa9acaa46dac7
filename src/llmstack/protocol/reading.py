"""How far a prompt is read, as thinking that a client shows while it waits. The model never sees it: a block with this
signature is left out of the next prompt (conversation.py).
"""

from __future__ import annotations

from llmstack.protocol.anthropic import ThinkingBlock
from llmstack.protocol.chat import PrefillProgress

SIGNATURE = "llmstack-reading"
FIRST_MS = 3000.0  # a prompt that is read sooner needs no word
STEP = 0.1


class ReadingBlock(ThinkingBlock, tag="thinking", gc=False):
    """A thinking block to its client, and none of the model's."""


class ReadingNotes:
    """A line at each tenth of the prompt."""

    def __init__(self) -> None:
        self._share = 0.0

    def line(self, progress: PrefillProgress) -> str:
        """What is new to say; "" for nothing."""
        share = min(progress.processed / progress.total, 1.0) if progress.total > 0 else 0.0
        if progress.time_ms < FIRST_MS or share - self._share < STEP:
            return ""
        self._share = share
        return f"reading the prompt: {share:.0%} of {progress.total:,} tokens\n"
