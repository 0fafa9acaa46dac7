"""Silent prefill, longer than the client's own patience of five minutes (claude-code#39906)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.long_silence import SILENT_S, result


@pytest.mark.timeout(1800)
def test_claude_code_waits_six_minutes_without_a_setting_of_its_own(long_silence_folder: Path) -> None:
    """It ran beside the other tests (support/long_silence.py). One question, one answer, nothing asked again."""
    ran = result(long_silence_folder, within_s=1700)
    assert not ran["error"], ran["error"]
    assert ran["status"] == 0 and "patience rewarded" in ran["out"], ran
    assert ran["main_requests"] == 1
    assert ran["longest_ms"] > SILENT_S * 1000
