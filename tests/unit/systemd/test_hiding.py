"""Where files cannot be hidden, the rest of the sandbox stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.paths import Home
from llmstack.systemd import manager
from llmstack.systemd.supervisor import SystemdSupervisor
from llmstack.units import Tier


@pytest.mark.parametrize("hides", [True, False])
def test_a_machine_that_hides_no_files_keeps_its_tier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hides: bool
) -> None:
    asked: list[tuple[str, ...]] = []

    def tier(settings: tuple[str, ...]) -> Tier:
        asked.append(tuple(settings))
        hidden = any(setting.startswith("InaccessiblePaths=") for setting in settings)
        return Tier.BASIC if hidden and not hides else Tier.FULL

    monkeypatch.setattr(manager, "tier", tier)
    monkeypatch.setattr(manager, "use_journal", lambda: True)
    home = Home(*(tmp_path / name for name in ("config", "state", "data", "cache")))
    settings = SystemdSupervisor(home, "")._settings()
    assert settings.tier is Tier.FULL and (settings.person is not None) == hides
    assert len(asked) == (1 if hides else 2), "one trial where it works"
