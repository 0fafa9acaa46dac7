"""The user's systemd manager as a supervisor of the two services."""

from __future__ import annotations

from llmstack.systemd.manager import available, linger, linger_command, tier, unavailable_because, use_journal
from llmstack.systemd.supervisor import SystemdSupervisor, suffix_of

__all__ = [
    "SystemdSupervisor",
    "available",
    "linger",
    "linger_command",
    "suffix_of",
    "tier",
    "unavailable_because",
    "use_journal",
]
