"""What of a proxy grows while it works: sampled, and put as a slope over the last three quarters of the time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from benchmarks.soak.load import ROUTES, Clients, misbehave
from support.stack import Stack, running
from support.upstream import Upstream

EVERY_S = 2.0
RELOAD_S = 20.0
RESTART_S = 60.0


@dataclass
class Sample:
    at_s: float
    resident_mib: float
    descriptors: int
    tasks: float
    health_ms: float


@dataclass
class Growth:
    samples: list[Sample] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        late = self.samples[len(self.samples) // 4 :]
        hours = [sample.at_s / 3600 for sample in late]
        health = sorted(sample.health_ms for sample in late)
        return {
            "minutes": round(self.samples[-1].at_s / 60, 1),
            "requests": sum(self.outcomes.values()),
            "resident_mib": round(late[-1].resident_mib, 1),
            "resident_mib_per_hour": round(slope(hours, [sample.resident_mib for sample in late]), 2),
            "descriptors_per_hour": round(slope(hours, [sample.descriptors for sample in late]), 2),
            "tasks_per_hour": round(slope(hours, [sample.tasks for sample in late]), 2),
            "health_p99_ms": round(health[min(int(len(health) * 0.99), len(health) - 1)], 1),
            "health_p50_ms": round(health[len(health) // 2], 1),
            "outcomes": dict(sorted(self.outcomes.items())),
            "broken": self.broken[:5],
        }


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Least squares; 0 for a single point."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def measure(minutes: float, seed: int) -> Growth:
    with running() as stack:
        upstream = Upstream(misbehave)
        try:
            (stack.root / "config" / "models.toml").write_text(ROUTES.format(url=upstream.url))
            return asyncio.run(_measure(stack, minutes * 60, seed, upstream))
        finally:
            upstream.close()


async def _measure(stack: Stack, seconds: float, seed: int, upstream: Upstream) -> Growth:
    growth, clients = Growth(), Clients(stack, seed)
    load = asyncio.create_task(clients.run())
    unrest = asyncio.create_task(_unrest(stack, random.Random(seed), upstream))
    began = time.monotonic()
    try:
        async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
            while (spent := time.monotonic() - began) < seconds:
                growth.samples.append(await _sample(client, stack, spent))
                await asyncio.sleep(EVERY_S)
    finally:
        unrest.cancel()
        clients.until.set()
        await asyncio.gather(load, unrest, return_exceptions=True)
    growth.outcomes, growth.broken = dict(clients.outcomes), clients.broken
    return growth


async def _sample(client: httpx.AsyncClient, stack: Stack, at_s: float) -> Sample:
    asked = time.monotonic()
    await client.get("/health")
    health_ms = (time.monotonic() - asked) * 1000
    shown = (await client.get("/metrics")).text
    tasks = next((float(line.split()[1]) for line in shown.splitlines() if line.startswith("llmstack_tasks ")), 0.0)
    proxy = psutil.Process(service_pid(stack, "serve-proxy") or os.getpid())
    return Sample(at_s, proxy.memory_info().rss / 2**20, proxy.num_fds(), tasks, health_ms)


async def _unrest(stack: Stack, dice: random.Random, upstream: Upstream) -> None:
    """The routes are read anew, the server dies."""
    began, reloads, restarts = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(1)
        spent = time.monotonic() - began
        if spent > (reloads + 1) * RELOAD_S:
            reloads += 1
            text = ROUTES.format(url=upstream.url) + f"# {reloads}\n"
            (stack.root / "config" / "models.toml").write_text(text)
            upstream.asked.clear()
        if spent > (restarts + 1) * RESTART_S:
            restarts += 1
            pid = service_pid(stack, "--slot-save-path")
            if pid is not None:
                os.kill(pid, signal.SIGKILL)


def service_pid(stack: Stack, word: str) -> int | None:
    """The service of this stack with that word in its command line."""
    for process in stack.processes():
        try:
            if word in process.cmdline():
                return process.pid
        except psutil.Error:
            continue
    return None
