"""Two examinations turned into proofs: the new engine must do what it has to, and what the engine of now does. Pure.

| proof                    | fails where                                                                              |
| ------------------------ | ---------------------------------------------------------------------------------------- |
| forced tool calls        | one that the schema decides word by word comes otherwise, or not at all                   |
| your client's tools      | a forced call of one does not come, and the engine of now makes it                        |
| free tool calls          | none comes where the engine of now makes one; one comes as text                           |
| streams                  | a kind of content is missing or out of order                                              |
| schemas                  | one is refused that the engine of now takes                                               |
| large tools              | refused, and the engine of now takes them                                                 |
| second turn              | less than REUSED of the first prompt comes from the cache                                 |
| snapshot                 | less than REUSED of the conversation comes back in another process                        |
| prefill, decode          | slower by more than TOLERANCE in LOOKS looks, of which each measures both engines         |
| same text                | never: differences are shown                                                              |

Reuse counts as held, too, where it is no less than that of the engine of now: a model may allow no more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmstack.judge import TOLERANCE, Metric
from llmstack.upgrade.examine import PROMPTS, Examination, QuestionResult, Reuse

REUSED = 0.9
LOOKS = 3  # that find it slower: then it is
TOO_SMALL = "not judged: so small a model is ruled by fixed costs"
Look = tuple[Mapping[str, Metric], Mapping[str, Metric]]  # speeds of the engine of now and of the new one, in one go


@dataclass(frozen=True, slots=True)
class Proof:
    """ok None: shown, not judged. figure: what was seen. why: what failed, or a remark."""

    name: str
    ok: bool | None
    figure: str
    why: str = ""


def judge(
    old: Examination | None, new: Examination, more: Sequence[Look] = (), *, speeds: bool = True
) -> tuple[Proof, ...]:
    """old: of the engine of now; None where it could not be examined: only what must always be so is judged then.

    more: further looks at the speeds (in_doubt): other programs slow one engine down, seldom the same in each. speeds:
    False where the model is so small that fixed costs rule them, which say nothing of another model: they are shown.
    """
    proofs = [
        Proof(
            "starts", True, f"loaded in {new.loaded_s:.1f} s", f"now {old.loaded_s:.1f} s" if old is not None else ""
        ),
        _all("forced tool calls", new.exact, None),
        _all("your client's tools", new.forced, old.forced if old else []),
        _all("free tool calls", new.free, old.free if old else []),
        _all("streams", new.streams, None),
        _all("schemas", new.hard, old.hard if old else []),
    ]
    if new.large is not None:
        proofs.append(_large(old, new, new.large))
    proofs += [
        _reuse("second turn", new.second_turn, old.second_turn if old else None),
        _reuse("snapshot", new.restored, old.restored if old else None),
        *_speeds(((old.speeds if old is not None else {}), new.speeds), more, judged=speeds),
    ]
    if old is not None:
        proofs.append(_texts(old.texts, new.texts))
    return tuple(proofs)


def failed(proofs: Sequence[Proof]) -> tuple[Proof, ...]:
    return tuple(proof for proof in proofs if proof.ok is False)


def in_doubt(looks: Sequence[Look]) -> bool:
    """Whether one more look is worth its time, for a machine has busy minutes: some speed is neither held (_held) nor
    slower in LOOKS looks."""
    shares = [_shares(name, looks) for name in looks[0][1] if name in looks[0][0]]
    return any(not _held(of) and sum(share < 1 - TOLERANCE for share in of) < LOOKS for of in shares)


def _all(name: str, new: Sequence[QuestionResult], old: Sequence[QuestionResult] | None) -> Proof:
    """old None: each must be good; else only those that were good before."""
    if not new:
        return Proof(name, None, "not tried")
    good_before = {one.name for one in old if one.ok} if old is not None else {one.name for one in new}
    bad = [one for one in new if not one.ok]
    worse = [one for one in bad if one.name in good_before]
    figure = f"{len(new) - len(bad)} of {len(new)}"
    if worse:
        return Proof(name, False, figure, f"{worse[0].name}: {worse[0].why}")
    if bad and old is not None:
        return Proof(name, None if len(bad) == len(new) else True, figure, f"{bad[0].name} as before: {bad[0].why}")
    return Proof(name, True, figure)


def _large(old: Examination | None, new: Examination, answered: QuestionResult) -> Proof:
    figure = f"{new.large_bytes // 1000} kB of JSON"
    if answered.ok:
        return Proof("large tools", True, figure, answered.why)
    was_good = old is None or old.large is None or (old.large.ok and old.large_bytes >= new.large_bytes)
    return Proof("large tools", False if was_good else None, figure, answered.why)


def _reuse(name: str, new: Reuse | None, old: Reuse | None) -> Proof:
    if new is None:
        return Proof(name, None, "not tried")
    figure = f"{new.cached:,} of {new.before:,} tokens came from the cache"
    if new.cached >= REUSED * new.before:
        return Proof(name, True, figure)
    if old is not None and old.before and new.cached / max(new.before, 1) >= REUSED * old.cached / old.before:
        return Proof(name, True if new.cached else None, figure, f"as before: {old.cached:,} of {old.before:,}")
    now = f"the engine of now: {old.cached:,} of {old.before:,}" if old is not None else ""
    return Proof(name, False, figure, now)


def _speeds(first: Look, more: Sequence[Look], *, judged: bool) -> list[Proof]:
    proofs = []
    for name, metric in first[1].items():
        figure = f"{rate_text(metric.median)} tokens/s"
        before = first[0].get(name)
        if before is None:
            proofs.append(Proof(name.split(" at ")[0], True, figure))
            continue
        shares = _shares(name, (first, *more))
        why = _compared(before, metric, shares)
        ok = _held(shares) if judged else None
        proofs.append(Proof(name.split(" at ")[0], ok, figure, why if judged else f"{why}; {TOO_SMALL}"))
    return proofs


def _shares(name: str, looks: Sequence[Look]) -> list[float]:
    return [_share(old[name], new[name]) for old, new in looks if name in old and name in new]


def _held(shares: Sequence[float]) -> bool:
    """Whether one look holds the engines equal, or two find the new one faster: one may be a bad minute of the other,
    as on a machine where the engine of now once got a 36th of its speed."""
    equal = any(1 - TOLERANCE <= share <= 1 / (1 - TOLERANCE) for share in shares)
    return equal or sum(share > 1 for share in shares) > 1


def _share(old: Metric, new: Metric) -> float:
    """The new speed in the old one: of the best samples, and of the medians at one pace of the machine where that is
    less, so that a machine that woke up in between does not hide a slow engine."""
    medians = new.median / old.at(new.pace).median if new.pace is not None and old.pace is not None else math.inf
    return min(medians, max(new.values, default=new.median) / max(old.values, default=old.median))


def _compared(old: Metric, new: Metric, shares: Sequence[float]) -> str:
    pace = new.pace / old.pace if new.pace is not None and old.pace else 1.0
    text = f"now {rate_text(old.median)} ({new.median / old.median - 1:+.0%})"
    if abs(pace - 1) > 0.05:
        text += f"; the machine ran at {pace:.0%} of its pace then"
    if len(shares) > 1:
        text += f"; {statistics.median(shares):.0%} of now in {len(shares)} looks at both"
    return text


def rate_text(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _texts(old: Sequence[str], new: Sequence[str]) -> Proof:
    different = [
        (prompt, *_parted(before, after))
        for prompt, before, after in zip(PROMPTS, old, new, strict=False)
        if before != after
    ]
    figure = f"{len(new) - len(different)} of {len(new)} answers word for word"
    if not different:
        return Proof("same text", None, figure)
    prompt, before, after = different[0]
    return Proof("same text", None, figure, f"{prompt} … now {before!r}, new {after!r}")


def _parted(before: str, after: str) -> tuple[str, str]:
    """Both from where they part, shortened."""
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return before[at : at + 40], after[at : at + 40]
