"""An upstream that says nothing for 700 s, longer than a client waits by itself: nobody gives up, nobody asks again."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.long_silence import PATIENT, SILENT_S, result


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", PATIENT)
def test_a_client_waits_for_an_answer_that_takes_long(name: str, long_silence_folder: Path) -> None:
    """It ran beside the other tests (support/long_silence.py)."""
    ran = result(long_silence_folder, name, within_s=2300)
    assert not ran["error"], ran["error"]
    assert ran["status"] == 0 and "patience rewarded" in ran["out"], ran
    assert not ran["given_up"]
    assert ran["longest_ms"] > SILENT_S * 1000
