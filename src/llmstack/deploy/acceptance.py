"""How many guessed tokens the server's own counters saw accepted, kept for each model: the next plan knows it.

llama-server counts them over all requests since its start (`llamacpp:spec_decode_*` of GET /metrics, from build 10285).
"""

from __future__ import annotations

import re
import time

import msgspec

from llmstack.detect.model_file import file_key
from llmstack.paths import Home, write_private
from llmstack.stackfile import StackRecord

ENOUGH = 500  # guessed tokens; fewer say little
_MOST = 200
_COUNT = re.compile(r"^llamacpp:spec_decode_num_(?P<what>draft|accepted)_tokens_total\s+(?P<n>[0-9.eE+]+)", re.M)


class Acceptance(msgspec.Struct, frozen=True):
    """Of a model's file: tokens guessed and accepted, the most in a row, whether by a draft model. at: epoch s."""

    model: str
    drafted: int
    accepted: int
    length: int
    by_model: bool
    at: float

    @property
    def each(self) -> float:
        """The likelihood a of each guess, from the share that held: (a + a^2 + ... + a^length) / length."""
        share, low, high = self.accepted / self.drafted, 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            mean = sum(middle**n for n in range(1, self.length + 1)) / self.length
            low, high = (middle, high) if mean < share else (low, middle)
        return round((low + high) / 2, 3)


def counted(metrics: str) -> tuple[int, int]:
    """Tokens guessed and accepted, of the text of /metrics; zeros where it has none."""
    counts = {match["what"]: int(float(match["n"])) for match in _COUNT.finditer(metrics)}
    return counts.get("draft", 0), counts.get("accepted", 0)


def note(home: Home, stack: StackRecord) -> None:
    """Before a server ends: what it counted, where that is enough. A server that does not answer counts nothing."""
    if not any("--spec-type" in service.argv for service in stack.services):
        return  # and the plan need not be read
    plan = stack.plan
    if plan is None or not plan.assignment.draft_max:
        return
    drafted, accepted = counted(_metrics(home, stack))
    if drafted < ENOUGH:
        return
    a = plan.assignment
    seen = Acceptance(file_key(stack.model.path), drafted, min(accepted, drafted), a.draft_max, a.drafter, time.time())
    others = [one for one in _read(home) if (one.model, one.by_model) != (seen.model, seen.by_model)]
    write_private(home.state / "acceptance.json", msgspec.json.encode([*others, seen][-_MOST:]))


def of_model(home: Home, path: str, *, by_model: bool) -> float | None:
    """The likelihood of each guess as it was seen with this file; None where it was not."""
    key = file_key(path)
    return next((one.each for one in _read(home) if one.model == key and one.by_model == by_model), None)


def _read(home: Home) -> tuple[Acceptance, ...]:
    try:
        return msgspec.json.decode((home.state / "acceptance.json").read_bytes(), type=tuple[Acceptance, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def _metrics(home: Home, stack: StackRecord) -> str:
    import httpx

    try:
        key = home.server_key.read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{stack.server.url}/metrics", headers=headers, timeout=3, trust_env=False).text
    except (OSError, httpx.HTTPError):
        return ""
