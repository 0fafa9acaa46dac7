"""Silent prefill, longer than the client's own patience of five minutes (claude-code#39906)."""

from __future__ import annotations

from typing import Any


def test_claude_code_waits_six_minutes_without_a_setting_of_its_own(long_silence: Any) -> None:
    """It ran beside the other tests of this folder. One question, one answer, nothing asked again."""
    long_silence.thread.join(long_silence.SILENT_S + 150)
    assert long_silence.error is None, long_silence.error
    assert long_silence.done.status == 0 and "patience rewarded" in long_silence.done.out, long_silence.done
    assert long_silence.asked == 1
    assert max(float(line["total_ms"]) for line in long_silence.lines) > 360_000
