"""Rounds by seed: one of the parts is killed or stopped under load, and the stack must be ready again.

Engine and proxy come back by themselves. What brings the supervisor back, or ends what a killed command had begun, is
the next command, as it would be for a person who goes on working.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks.soak.growth import service_pid
from support.stack import Stack, running

WORDS = {"engine": "--slot-save-path", "proxy": "serve-proxy", "supervisor": "llmstack.process.daemon"}
READY_S = 240.0
STOPPED_S = 3.0  # of a supervisor, which nobody watches


@dataclass
class Round:
    number: int
    what: str
    ready_s: float
    wrong: list[str] = field(default_factory=list)


def play(
    rounds: int, seed: int, *, stops: bool = True, on_round: Callable[[Round], None] = lambda one: None
) -> list[Round]:
    dice = random.Random(seed)
    with running() as stack:
        ended = threading.Event()
        asking = [threading.Thread(target=_ask_on, args=(stack, ended), daemon=True) for _ in range(2)]
        for thread in asking:
            thread.start()
        try:
            played = []
            for number in range(rounds):
                played.append(_round(stack, number, dice, stops=stops))
                on_round(played[-1])
            return played
        finally:
            ended.set()
            for thread in asking:
                thread.join(30)


def _round(stack: Stack, number: int, dice: random.Random, *, stops: bool) -> Round:
    part = dice.choice(("engine", "proxy", "supervisor", "command"))
    stopped = stops and part != "command" and dice.random() < 0.4
    what = f"{'SIGSTOP' if stopped else 'SIGKILL'} of the {part}"
    began = time.monotonic()
    if part == "command":
        what = f"{what} {_killed_command(stack, dice)}"
    else:
        pid = service_pid(stack, WORDS[part])
        if pid is None:
            return Round(number, what, 0.0, [f"there is no {part}"])
        psutil.Process(pid).send_signal(signal.SIGSTOP if stopped else signal.SIGKILL)
        if stopped and part == "supervisor":
            time.sleep(STOPPED_S)
            psutil.Process(pid).send_signal(signal.SIGCONT)
    if part in ("supervisor", "command"):
        ran = stack.run(*stack.up_command(), timeout_s=READY_S)
        if ran.status != 0:
            return Round(number, what, time.monotonic() - began, [f"up ends with {ran.status}: {ran.err[-400:]}"])
    wrong = [] if _ready(stack, began) else [f"not ready after {READY_S:g} s: {stack.run('status').out[-400:]}"]
    return Round(number, what, time.monotonic() - began, [*wrong, *_left(stack)])


def _killed_command(stack: Stack, dice: random.Random) -> str:
    words = dice.choice((("restart", "server"), ("down",), stack.up_command("--ctx", dice.choice(("8192", "16384")))))
    command = [sys.executable, "-m", "llmstack", *words]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=stack.environment, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        process.wait(dice.random() * 4)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return words[0]


def _ready(stack: Stack, began: float) -> bool:
    """A client gets an answer, and `status` says so too."""
    while time.monotonic() - began < READY_S:
        if _answers(stack) and stack.run("status", "--json").json["state"] == "ready":
            return True
        time.sleep(0.5)
    return False


def _answers(stack: Stack) -> bool:
    body = {"model": "x", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    try:
        answer = httpx.post(f"{stack.url}/v1/messages", json=body, headers={"x-api-key": stack.token}, timeout=60)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def _left(stack: Stack) -> list[str]:
    """Nothing torn, nothing half, nobody too many."""
    wrong = [f"{name} is there" for name in ("transaction.json", "crash.txt") if (stack.root / "state" / name).exists()]
    lines = [" ".join(process.cmdline()) for process in stack.processes()]
    for part, word in WORDS.items():
        if (count := sum(word in line for line in lines)) != 1:
            wrong.append(f"{count} processes of the {part}")
    return wrong


def _ask_on(stack: Stack, ended: threading.Event) -> None:
    while not ended.is_set():
        _answers(stack)
        ended.wait(0.1)
