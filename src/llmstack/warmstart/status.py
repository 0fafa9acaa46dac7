"""How far the warm start is, for `status` and /health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class WarmingStatus:
    """state: off, cold, restoring, warming, warm. source: restored, computed or kept. done, of: tokens of what is being
    computed. began: when that began, in seconds of the manager's clock."""

    state: str = "off"
    prefix_tokens: int = 0
    source: str = ""
    done: int = 0
    of: int = 0
    began: float = 0.0

    def warming(self, tokens: int, now: float) -> WarmingStatus:
        """So many tokens begin to be computed, beside what is there already."""
        return WarmingStatus("warming", self.prefix_tokens, self.source, 0, tokens, now)

    def after_restore(self, tokens: int) -> WarmingStatus:
        """Of several states that were restored the longest is shown."""
        if tokens > self.prefix_tokens or self.source != "restored":
            return WarmingStatus("warm", tokens, "restored")
        return self

    def to_json(self, now: float) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "state": self.state,
            "prefix_tokens": self.prefix_tokens,
            "source": self.source or None,
        }
        if self.state == "warming" and self.of:
            shown |= {"done": self.done, "of": self.of}
            if self.done:
                shown["left_s"] = round((now - self.began) / self.done * (self.of - self.done), 1)
        return shown
