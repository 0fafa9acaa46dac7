"""What a check found: `doctor` and `upstream test` speak in these."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """finding: what is so. cause: why that matters or where it comes from. remedy: a command."""

    name: str
    status: Level
    finding: str
    cause: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return {
            "name": self.name,
            "status": self.status.value,
            "finding": self.finding,
            "cause": self.cause,
            "remedy": self.remedy,
        }
