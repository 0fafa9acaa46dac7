"""Finds the fastest assignment that keeps the budgets, over all of llama-server's placement flags.

Memory is monotone in each placement flag (more on the CPU never takes more VRAM, but for the staging buffer of
the first expert block), so the smallest number that fits is found by bisection; speed decides among the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmstack.hardware import Hardware
from llmstack.plan import splits
from llmstack.plan.assignment import Assignment, on_cpu
from llmstack.plan.budget import budgets
from llmstack.plan.drafting import MTP_LENGTHS, acceptance, draft_lengths, why_no_draft_model
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import Goal
from llmstack.plan.memory import Estimator, MemoryPlan
from llmstack.plan.rates import RATES
from llmstack.plan.speed import Predicted, Speed

UBATCHES = (512, 1024, 2048, 4096)
WORTH = 1.03  # a draft model must shorten the session by this much: how many of its tokens hold is an assumption
PROMPT_CACHE_MIB = 8192  # llama-server's own default for -cram: the most we take
CHECKPOINTS = 32  # its default for -ctxcp: the most we take
FILE_MIB = 1024.0  # of the checkpoints in one conversation's file, where the engine keeps them there
MIN_CHECKPOINTS = 4  # turns that can be rolled back; a hybrid or windowed model without any re-reads its prompt
STAGED_IS_WORTH_MIB = 256  # from here on, weights on the CPU are loaded into pinned memory

FIT_MARGIN_MIB = 1024  # --fit-target's default


@dataclass(frozen=True, slots=True)
class Candidate:
    """One assignment with its predicted speeds. cost: seconds of the session that speed is measured on."""

    assignment: Assignment
    predicted: Predicted
    estimator: Estimator

    @property
    def memory(self) -> MemoryPlan:
        return self.estimator.estimate(self.assignment)

    @property
    def cost(self) -> float:
        return self.predicted.session_s


class Search:
    def __init__(self, facts: ModelFacts, hardware: Hardware, goal: Goal, pinned: Mapping[str, Any]) -> None:
        self.facts = facts
        self.hardware = hardware
        self.goal = goal
        self.pinned = pinned
        self.no_draft_model = why_no_draft_model(facts, hardware, goal)
        self.estimator = Estimator(
            facts,
            hardware.devices,
            cpu_flags=hardware.cpu.flags,
            projector=goal.projector,
            drafter=None if self.no_draft_model else goal.draft,
        )
        self._draft_lengths = draft_lengths(goal.draft)
        fitted = replace(RATES, **acceptance(goal))
        self.speed = Speed(facts, hardware, self.estimator, keeps_checkpoints=goal.keeps_checkpoints, fitted=fitted)
        self.budget = budgets(hardware, goal)
        self.top = facts.n_layer_all + 1
        self._field = "ncmoe" if facts.moe else "ncffn"
        self._splits = [pinned["split"]] if "split" in pinned else [()]
        if not {"split", "devices"} & set(pinned):
            self._splits = splits.choices(hardware.devices, self.speed.cards)

    def best(self, ctx: int, type_k: str, type_v: str) -> Candidate | None:
        """The cheapest feasible assignment for this context and cache type, None when there is none.

        Never one that reads or writes slower than llama.cpp's own way would, if another is feasible.
        """
        candidates = list(self.all(ctx, type_k, type_v))
        if not candidates:
            return None
        baseline = self.baseline(ctx, type_k, type_v)
        if baseline is None:
            return self._cheapest(candidates)
        shares = [self.share_of_baseline(candidate, baseline) for candidate in candidates]
        largest = max(shares)
        best = self._cheapest(c for c, share in zip(candidates, shares, strict=True) if share >= largest)
        return best or self._cheapest(candidates)

    def _cheapest(self, candidates: Iterable[Candidate]) -> Candidate | None:
        """The cheapest one that keeps the budgets to the byte: what was far from them was tried by a rough figure."""
        ordered = sorted(candidates, key=_by_price)
        return next((candidate for candidate in ordered if self._keeps(candidate.memory)), None)

    def _keeps(self, memory: MemoryPlan) -> bool:
        within = all(use.total <= mib for use, mib in zip(memory.devices, self.budget.devices, strict=True))
        pooled = self.pooled_mib(memory)
        return within and (not pooled or memory.host.total + pooled <= self.budget.ram)

    def pooled_mib(self, memory: MemoryPlan) -> float:
        """What devices without memory of their own hold of the machine's RAM."""
        devices = zip(memory.devices, self.hardware.devices, strict=True)
        return sum(use.total for use, device in devices if device.unified)

    def share_of_baseline(self, candidate: Candidate, baseline: Predicted) -> float:
        """The smaller share of the baseline's two speeds, 1 when both are reached.

        With a draft model, the time in which it reads the prompt is left out: it is the same for every placement.
        """
        predicted, a = candidate.predicted, candidate.assignment
        if a.model_guesses:
            alone = self.speed.predict(replace(a, draft_max=0, drafter=False), self.goal.workload)
            predicted = replace(predicted, prefill_tps=alone.prefill_tps)
        return _smaller_share(predicted, baseline)

    def baseline(self, ctx: int, type_k: str, type_v: str) -> Predicted | None:
        """What the placement of llama.cpp's --fit comes to: 1024 MiB left free, its own batch, a memory map.

        It takes experts off the GPU from all layers, else whole layers, in single matrices: so it is credited with half
        a block less in RAM than whole blocks allow (common/fit.cpp).
        """
        if not self.hardware.devices:
            return None
        own: dict[str, Any] = {"ubatch": 512, "nkvo": False, "draft_max": 0, "swa_full": False, "load_mode": "mmap"}
        goal = replace(self.goal, vram_margin_mib=FIT_MARGIN_MIB)
        like = Search(self.facts, self.hardware, goal, {**own, **self.pinned})
        base = next(like._bases(ctx, type_k, type_v))
        blocks = self.facts.n_layer_all if self.facts.moe else 0
        base = replace(base, ngl=self.pinned["ngl"] if "ngl" in self.pinned else like._most(base, blocks))
        placed = like._least_on_cpu(base) if self.facts.moe else like._fit(base)
        a = like.finish(placed) if placed is not None else None
        if a is None:
            return None
        chosen = self.speed.predict(a, self.goal.workload)
        if a.ncmoe:
            a = replace(a, ncmoe=a.ncmoe - 1)
        elif a.ngl < self.top:
            a = replace(a, ngl=a.ngl + 1)
        less = self.speed.predict(a, self.goal.workload)
        return replace(chosen, decode_tps=(less.decode_tps + chosen.decode_tps) / 2)

    def feasible(self, ctx: int, type_k: str, type_v: str) -> bool:
        """Whether any assignment keeps the budgets; cheaper than the best one."""
        return any(
            self.finish(placed) is not None
            for base in self._bases(ctx, type_k, type_v)
            for placed in self._places(base)
        )

    def all(self, ctx: int, type_k: str, type_v: str) -> Iterator[Candidate]:
        """What could be best: placements that another one beats in every figure may be missing."""
        seen: set[Assignment] = set()
        speeds: list[Predicted] = []
        for base in sorted(self._bases(ctx, type_k, type_v), key=lambda base: base.nkvo):
            if base.nkvo and "nkvo" not in self.pinned and self._beaten(replace(base, ngl=self.top), speeds):
                continue
            for placed in self._places(base, speeds):
                done = self.finish(placed)
                if done is None:
                    continue
                done = self._fastest_draft(done)
                if done in seen:
                    continue
                seen.add(done)
                candidate = self.score(done)
                speeds.append(candidate.predicted)
                yield candidate

    def _fastest_draft(self, a: Assignment) -> Assignment:
        """With as many tokens of a draft model as write fastest."""
        if not a.model_guesses or self.pinned.get("draft_max") or self.facts.recurrent:
            return a
        depth = self.goal.workload.within(a.ctx // a.parallel).depth
        tried = (replace(a, draft_max=count) for count in self._draft_lengths)
        return min(tried, key=lambda candidate: self.speed.token_s(candidate, depth))

    def _beaten(self, a: Assignment, speeds: Sequence[Predicted]) -> bool:
        """Whether these layers, or -nkvo, could not gain even if all their weights fitted the GPU."""
        best = self.speed.predict(replace(a, load_mode="none"), self.goal.workload)
        return any(
            p.session_s <= best.session_s and p.decode_tps >= best.decode_tps and p.prefill_tps >= best.prefill_tps
            for p in speeds
        )

    def score(self, a: Assignment) -> Candidate:
        return Candidate(a, self.speed.predict(a, self.goal.workload), self.estimator)

    def fits_devices(self, a: Assignment) -> bool:
        return self.estimator.estimate_within(a, self.budget.devices) is not None

    def fits(self, a: Assignment) -> bool:
        memory = self.estimator.estimate(a)
        return self._keeps(memory) and memory.host.total <= self.budget.ram

    def _bases(self, ctx: int, type_k: str, type_v: str) -> Iterator[Assignment]:
        """Everything but the placement."""
        start = Assignment(
            ctx=ctx,
            ngl=0,
            type_k=type_k,
            type_v=type_v,
            threads=self.hardware.cpu.physical_cores,
            has_gpu=bool(self.hardware.devices),
            no_repack=self.estimator.packs_latent,
        )
        elsewhere = ("ctx", "type_k", "type_v", "ngl", "ncmoe", "ncffn", "split", "devices")
        pinned = {key: value for key, value in self.pinned.items() if key not in elsewhere}
        ubatches = (pinned["ubatch"],) if "ubatch" in pinned else UBATCHES
        history = self.facts.has_window and not self.goal.keeps_checkpoints  # what --swa-full is for: a warm restart
        swa = (pinned["swa_full"],) if "swa_full" in pinned else (False, True) if history else (False,)
        offload = (pinned["nkvo"],) if "nkvo" in pinned else (False, True) if self.hardware.devices else (False,)
        # one cache for all slots saves cells of sliding windows only; elsewhere it is larger and slower
        shared = (False, True) if self.facts.has_window and pinned.get("parallel", 1) > 1 else (False,)
        unified = (pinned["kv_unified"],) if "kv_unified" in pinned else shared
        for ubatch, kv_unified in itertools.product(ubatches, unified):
            if ubatch > ctx and ubatch != ubatches[0]:
                continue
            for swa_full in swa:
                for draft_max, drafter in self._drafting(pinned):
                    for nkvo in offload:
                        base = replace(start, **pinned)
                        yield replace(
                            base,
                            ubatch=ubatch,
                            kv_unified=kv_unified,
                            batch=pinned.get("batch", max(2048, ubatch)),
                            swa_full=swa_full,
                            draft_max=draft_max,
                            drafter=drafter,
                            nkvo=nkvo,
                        )

    def _drafting(self, pinned: Mapping[str, Any]) -> list[tuple[int, bool]]:
        """How many tokens may be drafted, and whether by a draft model."""
        counts, by_model = pinned.get("draft_max"), pinned.get("drafter")
        choices = [] if counts or by_model else [(0, False)]
        if counts == 0:
            return [(0, False)]
        if self.facts.n_draft and not by_model:
            choices += [(count, False) for count in ((counts,) if counts else MTP_LENGTHS)]
        if self.estimator.drafter is not None and (by_model or (by_model is None and self.hardware.devices)):
            # each takes a recurrent state more; else `_fastest_draft` finds the count, which takes no memory
            tried = self._draft_lengths if self.facts.recurrent else self._draft_lengths[:1]
            choices += [(count, True) for count in ((counts,) if counts else tried)]
        return choices

    def _places(self, base: Assignment, speeds: Sequence[Predicted] = ()) -> Iterator[Assignment]:
        """Assignments of this base that keep the devices' budgets, at most a dozen. speeds: speeds of earlier ones."""
        if not self.hardware.devices:
            yield replace(base, ngl=0, nkvo=False)
            return
        for split in self._splits:
            yield from self._places_on(replace(base, split=split), speeds)

    def _places_on(self, base: Assignment, speeds: Sequence[Predicted]) -> Iterator[Assignment]:
        """The same for one choice of devices."""
        if base.nkvo and "nkvo" not in self.pinned and self._fit(replace(base, ngl=self.top, nkvo=False)):
            return  # everything fits with the cache on the GPU: keeping it in RAM can only cost
        for ngl in self._ngls(base):
            if ngl < self.top and "ngl" not in self.pinned and self._beaten(replace(base, ngl=ngl), speeds):
                continue
            placed = self._least_on_cpu(replace(base, ngl=ngl))
            if placed is None:
                continue
            yield placed
            fuller = splits.onto_the_fastest(placed, self.speed.cards, self.budget.devices, self.fits_devices)
            if fuller is not None and "split" not in self.pinned:
                yield fuller

    def _ngls(self, base: Assignment) -> list[int]:
        if "ngl" in self.pinned:
            return [self.pinned["ngl"]]
        plain = self._most(base, 0)
        if plain == self.top:
            return [self.top]
        most = self._most(base, self.facts.n_layer_all)
        steps = {most - round((most - plain) * part / 4) for part in range(5)}
        none = set() if "devices" in self.pinned else {0}  # who names devices wants something computed there
        return sorted({plain, most, *steps} - {0} | none, reverse=True)

    def _most(self, base: Assignment, blocks: int) -> int:
        """The largest -ngl that fits with the first `blocks` blocks' feed-forward weights in RAM."""
        base = on_cpu(base, moe=self.facts.moe, blocks=self.pinned.get(self._field, blocks))
        low, high = 0, self.top
        while low < high:
            middle = (low + high + 1) // 2
            if self._fit(replace(base, ngl=middle)) is not None:
                low = middle
            else:
                high = middle - 1
        return low

    def _least_on_cpu(self, a: Assignment) -> Assignment | None:
        moe = self.facts.moe
        if "ncffn" in self.pinned and moe:
            a = replace(a, ncffn=self.pinned["ncffn"])
        if self._field in self.pinned:
            return self._fit(on_cpu(a, moe=moe, blocks=self.pinned[self._field]))
        if a.ngl == 0:
            return self._fit(a)
        whole = self._fit(a)
        if whole is not None:
            return whole
        start = max(self.top - a.ngl, 0)
        low, high = start + 1, self.facts.n_layer_all
        best = self._fit(on_cpu(a, moe=moe, blocks=high))
        if best is None:
            return None
        while low < high:
            middle = (low + high) // 2
            placed = self._fit(on_cpu(a, moe=moe, blocks=middle))
            if placed is not None:
                best, high = placed, middle
            else:
                low = middle + 1
        return best

    def _fit(self, a: Assignment) -> Assignment | None:
        """The assignment, with a split that keeps each device's budget, or None."""
        if self.fits_devices(a):
            return a
        if len(self.hardware.devices) < 2 or "split" in self.pinned or a.ngl == 0:
            return None
        used = a.split or (1.0,) * len(self.hardware.devices)
        shares = [float(max(mib, 1)) * (share > 0) for mib, share in zip(self.budget.devices, used, strict=True)]
        for _ in range(8):
            tried = replace(a, split=tuple(round(share, 1) for share in shares))
            memory = self.estimator.estimate(tried)
            ratios = [use.total / max(mib, 1) for use, mib in zip(memory.devices, self.budget.devices, strict=True)]
            if max(ratios) <= 1:
                return tried
            mean = sum(ratios) / sum(share > 0 for share in shares)
            shares = [
                share * min(max((mean / max(r, 0.05)) ** 0.7, 0.5), 2.0)
                for share, r in zip(shares, ratios, strict=True)
            ]
        return None

    def finish(self, a: Assignment) -> Assignment | None:
        """Fills in what lives in RAM (load mode, checkpoints, prompt cache), and names the devices that compute.

        None when RAM is too small.
        """
        memory = self.estimator.estimate_within(replace(a, cache_ram_mib=0, checkpoints=0), self.budget.devices)
        if memory is None:
            return None
        if "load_mode" not in self.pinned:
            crosses = any(backend.pinned for backend in self.estimator.backends) and a.ngl > 0
            staged = memory.host.weights - self.facts.input_bytes / (1 << 20)
            a = replace(a, load_mode="none" if crosses and staged >= STAGED_IS_WORTH_MIB else "mmap")
        left = self.budget.ram - memory.host.total - self.pooled_mib(memory)
        each = self.estimator.checkpoint_bytes(a) / (1 << 20) * a.parallel
        keeps = (self.facts.recurrent or self.facts.has_window) and each > 0
        if "checkpoints" not in self.pinned:
            most = self._most_checkpoints(each / a.parallel) if keeps else 0
            room = min(most, max(int(left * 0.5 / each), 0)) if keeps else 0
            a = replace(a, checkpoints=min(most, max(room, MIN_CHECKPOINTS)) if keeps else 0)
        left -= each * a.checkpoints if keeps else 0
        if "cache_ram_mib" not in self.pinned:
            spare = int(min(PROMPT_CACHE_MIB, left * 0.5)) // 256 * 256
            a = replace(a, cache_ram_mib=max(spare, 0))
        return splits.with_devices(a, self.hardware.devices) if left - a.cache_ram_mib >= 0 else None

    def _most_checkpoints(self, each_mib: float) -> int:
        """As many as are worth their bytes on disk: each is a whole state, and they go into every saved slot."""
        if not self.goal.keeps_checkpoints:
            return CHECKPOINTS
        return min(CHECKPOINTS, max(int(FILE_MIB / each_mib), MIN_CHECKPOINTS))


def _by_price(candidate: Candidate) -> tuple[float, int]:
    """Of equal prices the one with fewer devices: one that gets no layer still costs a driver's context there."""
    return float(f"{_price(candidate):.6g}"), len(candidate.assignment.devices)


def _price(candidate: Candidate) -> float:
    return candidate.cost * (WORTH if candidate.assignment.model_guesses else 1.0)


def _smaller_share(predicted: Predicted, baseline: Predicted) -> float:
    """Of the two speeds, at most 1."""
    return min(predicted.decode_tps / baseline.decode_tps, predicted.prefill_tps / baseline.prefill_tps, 1.0)
