"""Finds the fastest assignment that keeps the budgets, over all of llama-server's placement flags.

Memory is monotone in each placement flag (more on the CPU never takes more VRAM, but for the staging buffer of
the first expert block), so the smallest number that fits is found by bisection; speed decides among the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmstack.gguf.header import VOCAB_APART
from llmstack.hardware import Hardware
from llmstack.plan.assignment import Assignment, on_cpu
from llmstack.plan.facts import Facts
from llmstack.plan.goal import Goal
from llmstack.plan.memory import Estimator, Memory
from llmstack.plan.result import Budget
from llmstack.plan.speed import Predicted, Speed

UBATCHES = (512, 1024, 2048, 4096)
DRAFTS = (1, 2, 3)
GUESSES = (1, 2, 3, 4, 6)  # of a second model
WORTH = 1.03  # a second model must shorten the session by this much: how many guesses hold is an assumption
PROMPT_CACHE_MIB = 8192  # llama-server's own default for -cram: the most we take
CHECKPOINTS = 32  # its default for -ctxcp: the most we take
MIN_CHECKPOINTS = 4  # turns that can be rolled back; a hybrid or windowed model without any re-reads its prompt
STAGED_IS_WORTH_MIB = 256  # from here on, weights on the CPU are loaded into pinned memory

FIT_MARGIN_MIB = 1024  # --fit-target's default


@dataclass(frozen=True, slots=True)
class Found:
    assignment: Assignment
    predicted: Predicted
    estimator: Estimator

    @property
    def memory(self) -> Memory:
        return self.estimator.estimate(self.assignment)

    @property
    def cost(self) -> float:
        return self.predicted.session_s


class Search:
    def __init__(self, facts: Facts, hardware: Hardware, goal: Goal, fixed: dict[str, Any]) -> None:
        self.facts = facts
        self.hardware = hardware
        self.goal = goal
        self.fixed = fixed
        self.no_drafter = why_no_drafter(facts, hardware, goal)
        self.estimator = Estimator(
            facts,
            hardware.devices,
            cpu_flags=hardware.cpu.flags,
            mmproj_bytes=goal.mmproj_bytes,
            drafter=None if self.no_drafter else goal.draft,
        )
        self.speed = Speed(facts, hardware, self.estimator)
        self.budget = budgets(hardware, goal)
        self.top = facts.n_layer_all + 1
        self._field = "ncmoe" if facts.moe else "ncffn"

    def best(self, ctx: int, type_k: str, type_v: str) -> Found | None:
        """The cheapest feasible assignment for this context and cache type, None when there is none.

        Never one that reads or writes slower than llama.cpp's own way would, if another is feasible.
        """
        found = list(self.all(ctx, type_k, type_v))
        if not found:
            return None
        floor = self.floor(ctx, type_k, type_v)
        if floor is None:
            return self._cheapest(found)
        reached = [self._reach(one, floor) for one in found]
        nearest = max(reached)
        best = self._cheapest(one for one, reach in zip(found, reached, strict=True) if reach >= nearest)
        return best or self._cheapest(found)

    def _cheapest(self, found: Iterable[Found]) -> Found | None:
        """The cheapest one that keeps the budgets to the byte: what was far from them was tried by a rough figure."""
        ordered = sorted(found, key=_price)
        return next((one for one in ordered if self._keeps(one.memory)), None)

    def _keeps(self, memory: Memory) -> bool:
        return all(use.total <= mib for use, mib in zip(memory.devices, self.budget.devices, strict=True))

    def _reach(self, one: Found, floor: Predicted) -> float:
        """A second model reads every prompt too, wherever the first is placed: the floor judges the placement."""
        mine, a = one.predicted, one.assignment
        if a.model_guesses:
            alone = self.speed.predict(replace(a, draft_max=0, drafter=False), self.goal.workload)
            mine = replace(mine, prefill_tps=alone.prefill_tps)
        return _reach(mine, floor)

    def floor(self, ctx: int, type_k: str, type_v: str) -> Predicted | None:
        """What the placement of llama.cpp's --fit comes to: 1024 MiB left free, its own batch, a memory map.

        It takes experts off the GPU from all layers, else whole layers, in single matrices: so it is credited with half
        a block less in RAM than whole blocks allow (common/fit.cpp).
        """
        if not self.hardware.devices:
            return None
        fixed: dict[str, Any] = {"ubatch": 512, "nkvo": False, "draft_max": 0, "swa_full": False, "load_mode": "mmap"}
        goal = replace(self.goal, vram_margin_mib=FIT_MARGIN_MIB)
        like = Search(self.facts, self.hardware, goal, {**fixed, **self.fixed})
        base = next(like._bases(ctx, type_k, type_v))
        blocks = self.facts.n_layer_all if self.facts.moe else 0
        base = replace(base, ngl=self.fixed["ngl"] if "ngl" in self.fixed else like._most(base, blocks))
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

    def all(self, ctx: int, type_k: str, type_v: str) -> Iterator[Found]:
        """What could be best: placements that another one beats in every figure may be missing."""
        seen: set[Assignment] = set()
        made: list[Predicted] = []
        for base in sorted(self._bases(ctx, type_k, type_v), key=lambda base: base.nkvo):
            if base.nkvo and "nkvo" not in self.fixed and self._beaten(replace(base, ngl=self.top), made):
                continue
            for placed in self._places(base, made):
                done = self.finish(placed)
                if done is None:
                    continue
                done = self._guessing(done)
                if done in seen:
                    continue
                seen.add(done)
                found = self.score(done)
                made.append(found.predicted)
                yield found

    def _guessing(self, a: Assignment) -> Assignment:
        """With as many guesses of a second model as write fastest."""
        if not a.model_guesses or self.fixed.get("draft_max"):
            return a
        depth = self.goal.workload.within(a.ctx // a.parallel).depth
        tried = (replace(a, draft_max=count) for count in GUESSES)
        return min(tried, key=lambda one: self.speed.token_s(one, depth))

    def _beaten(self, a: Assignment, made: Sequence[Predicted]) -> bool:
        """Whether these layers, or -nkvo, could not gain even if all their weights fitted the GPU."""
        best = self.speed.predict(replace(a, load_mode="none"), self.goal.workload)
        return any(
            p.session_s <= best.session_s and p.decode_tps >= best.decode_tps and p.prefill_tps >= best.prefill_tps
            for p in made
        )

    def score(self, a: Assignment) -> Found:
        return Found(a, self.speed.predict(a, self.goal.workload), self.estimator)

    def fits_devices(self, a: Assignment) -> bool:
        return self.estimator.fits_devices(a, self.budget.devices)

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
        elsewhere = ("ctx", "type_k", "type_v", "ngl", "ncmoe", "ncffn", "split")
        fixed = {key: value for key, value in self.fixed.items() if key not in elsewhere}
        ubatches = (fixed["ubatch"],) if "ubatch" in fixed else UBATCHES
        swa = (fixed["swa_full"],) if "swa_full" in fixed else (False, True) if self.facts.has_window else (False,)
        offload = (fixed["nkvo"],) if "nkvo" in fixed else (False, True) if self.hardware.devices else (False,)
        # one cache for all slots saves cells of sliding windows only; elsewhere it is larger and slower
        shared = (False, True) if self.facts.has_window and fixed.get("parallel", 1) > 1 else (False,)
        unified = (fixed["kv_unified"],) if "kv_unified" in fixed else shared
        for ubatch, kv_unified in itertools.product(ubatches, unified):
            if ubatch > ctx and ubatch != ubatches[0]:
                continue
            for swa_full in swa:
                for draft_max, drafter in self._drafting(fixed):
                    for nkvo in offload:
                        base = replace(start, **fixed)
                        yield replace(
                            base,
                            ubatch=ubatch,
                            kv_unified=kv_unified,
                            batch=fixed.get("batch", max(2048, ubatch)),
                            swa_full=swa_full,
                            draft_max=draft_max,
                            drafter=drafter,
                            nkvo=nkvo,
                        )

    def _drafting(self, fixed: dict[str, Any]) -> list[tuple[int, bool]]:
        """How many tokens may be guessed, and whether by a second model."""
        counts, by_model = fixed.get("draft_max"), fixed.get("drafter")
        made = [] if counts or by_model else [(0, False)]
        if counts == 0:
            return [(0, False)]
        if self.facts.n_draft and not by_model:
            made += [(count, False) for count in ((counts,) if counts else DRAFTS)]
        if self.estimator.drafter is not None and (by_model or (by_model is None and self.hardware.devices)):
            made.append((counts or GUESSES[0], True))  # `_guessing` finds the count: it takes no memory
        return made

    def _places(self, base: Assignment, made: Sequence[Predicted] = ()) -> Iterator[Assignment]:
        """Assignments of this base that keep the devices' budgets, at most a dozen. made: what was found already."""
        if not self.hardware.devices:
            yield replace(base, ngl=0, nkvo=False)
            return
        if "split" in self.fixed:
            base = replace(base, split=self.fixed["split"])
        if base.nkvo and "nkvo" not in self.fixed and self._fit(replace(base, ngl=self.top, nkvo=False)):
            return  # everything fits with the cache on the GPU: keeping it in RAM can only cost
        for ngl in self._ngls(base):
            if ngl < self.top and "ngl" not in self.fixed and self._beaten(replace(base, ngl=ngl), made):
                continue
            found = self._least_on_cpu(replace(base, ngl=ngl))
            if found is not None:
                yield found

    def _ngls(self, base: Assignment) -> list[int]:
        if "ngl" in self.fixed:
            return [self.fixed["ngl"]]
        plain = self._most(base, 0)
        if plain == self.top:
            return [self.top]
        most = self._most(base, self.facts.n_layer_all)
        steps = {most - round((most - plain) * part / 4) for part in range(5)}
        return sorted({0, plain, most, *steps}, reverse=True)

    def _most(self, base: Assignment, blocks: int) -> int:
        """The largest -ngl that fits with the first `blocks` blocks' feed-forward weights in RAM."""
        base = on_cpu(base, moe=self.facts.moe, blocks=self.fixed.get(self._field, blocks))
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
        if "ncffn" in self.fixed and moe:
            a = replace(a, ncffn=self.fixed["ncffn"])
        if self._field in self.fixed:
            return self._fit(on_cpu(a, moe=moe, blocks=self.fixed[self._field]))
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
            found = self._fit(on_cpu(a, moe=moe, blocks=middle))
            if found is not None:
                best, high = found, middle
            else:
                low = middle + 1
        return best

    def _fit(self, a: Assignment) -> Assignment | None:
        """The assignment, with a split that keeps each device's budget, or None."""
        if self.fits_devices(a):
            return a
        if len(self.hardware.devices) < 2 or "split" in self.fixed or a.ngl == 0:
            return None
        shares = [float(mib) for mib in self.budget.devices]
        for _ in range(8):
            tried = replace(a, split=tuple(round(share, 1) for share in shares))
            memory = self.estimator.estimate(tried)
            ratios = [use.total / max(mib, 1) for use, mib in zip(memory.devices, self.budget.devices, strict=True)]
            if max(ratios) <= 1:
                return tried
            mean = sum(ratios) / len(ratios)
            shares = [
                share * min(max((mean / max(r, 0.05)) ** 0.7, 0.5), 2.0)
                for share, r in zip(shares, ratios, strict=True)
            ]
        return None

    def finish(self, a: Assignment) -> Assignment | None:
        """Fills in what lives in RAM: load mode, checkpoints, prompt cache. None when RAM is too small."""
        memory = self.estimator.within(replace(a, cache_ram_mib=0, checkpoints=0), self.budget.devices)
        if memory is None:
            return None
        if "load_mode" not in self.fixed:
            pinned = any(backend.pinned for backend in self.estimator.backends) and a.ngl > 0
            staged = memory.host.weights - self.facts.input_bytes / (1 << 20)
            a = replace(a, load_mode="none" if pinned and staged >= STAGED_IS_WORTH_MIB else "mmap")
        left = self.budget.ram - memory.host.total
        each = self.estimator.checkpoint_bytes(a) / (1 << 20) * a.parallel
        keeps = (self.facts.recurrent or self.facts.has_window) and each > 0
        if "checkpoints" not in self.fixed:
            wanted = min(CHECKPOINTS, max(int(left * 0.5 / each), 0)) if keeps else 0
            a = replace(a, checkpoints=min(CHECKPOINTS, max(wanted, MIN_CHECKPOINTS)) if keeps else 0)
        left -= each * a.checkpoints if keeps else 0
        if "cache_ram_mib" not in self.fixed:
            spare = int(min(PROMPT_CACHE_MIB, left * 0.5)) // 256 * 256
            a = replace(a, cache_ram_mib=max(spare, 0))
        return a if left - a.cache_ram_mib >= 0 else None


def _price(one: Found) -> float:
    return one.cost * (WORTH if one.assignment.model_guesses else 1.0)


def why_no_drafter(facts: Facts, hardware: Hardware, goal: Goal) -> str:
    """Why the goal's second model cannot be used at all; empty when it can, or there is none."""
    if goal.draft is None:
        return ""
    if len(hardware.devices) > 1:
        return "its place among several GPUs is not planned"
    if goal.mmproj_bytes:
        return "llama-server cannot read pictures with one (server-context.cpp: batch.has_embd + spec)"
    if facts.recurrent or facts.has_window:
        return "rolling back the state of this model for wrong guesses is not planned"
    apart = abs(facts.n_vocab - goal.draft.n_vocab)
    if apart > VOCAB_APART:
        return f"its vocabulary differs by {apart} tokens, llama.cpp takes at most {VOCAB_APART}"
    return ""


def at_least(mine: Predicted, floor: Predicted) -> bool:
    return _reach(mine, floor) >= 1


def _reach(mine: Predicted, floor: Predicted) -> float:
    """The smaller share of the floor's two speeds that is reached, 1 when both are."""
    return min(mine.decode_tps / floor.decode_tps, mine.prefill_tps / floor.prefill_tps, 1.0)


def budgets(hardware: Hardware, goal: Goal) -> Budget:
    """What may be used: free memory less a margin, and for RAM the cgroup's limit where it is lower."""
    margins = tuple(
        goal.vram_margin_mib if goal.vram_margin_mib is not None else max(256, device.total_mib // 40)
        for device in hardware.devices
    )
    free = hardware.ram.available_mib
    if hardware.ram.limit_mib is not None:
        free = min(free, hardware.ram.limit_mib)
    margin = goal.ram_margin_mib
    if margin is None:
        margin = min(max(512, hardware.ram.total_mib // 16), max(free // 4, 0))
    devices = tuple(max(d.free_mib - m, 0) for d, m in zip(hardware.devices, margins, strict=True))
    return Budget(devices, max(free - margin, 0), margins, margin)
