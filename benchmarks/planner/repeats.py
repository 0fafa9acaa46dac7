"""What guesses from the conversation's own text cost where they never come, and bring where they do.

    LLMSTACK_TEST_ENGINE=FOLDER python -m benchmarks.planner.repeats MODEL.gguf [ROUNDS]

Two servers of one model, with `ngram-mod` and without, are asked the same in turn: for a new text, and for a file
that they have just read. Prints tokens/s of each, medians of the rounds, and the ratio pair by pair.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from support.wait import free_port

TOKENS = 160
WHO = ("lighthouse keeper", "baker", "glass blower", "cartographer", "beekeeper", "tailor", "sailor", "miller", "clerk")
WHAT = ("paint", "sing", "climb", "forgive", "count", "sail", "wait", "carve", "listen", "dig", "swim")


def new_text(number: int) -> str:
    """Another one each round: the pool of what was said is every conversation's."""
    return f"Write a long story about a {WHO[number % len(WHO)]} who learns to {WHAT[number % len(WHAT)]}."


def file_again(number: int) -> str:
    lines = (
        f"def {what}_{number}(items: list[int]) -> int:\n    return sum(item * {n} for item in items if item % {n + 1})"
        for n, what in enumerate(WHAT[:6], number + 2)
    )
    return "Repeat this file word for word, and write nothing else:\n\n" + "\n".join(lines)


QUESTIONS = {"a new text": new_text, "a file again": file_again}
LENGTHS = ("--spec-ngram-mod-n-max", "64", "--spec-ngram-mod-n-min", "48", "--spec-ngram-mod-n-match", "24")
REPEATING = ("--spec-type", "ngram-mod", *LENGTHS)


@contextmanager
def served(engine: Path, model: str, *more: str) -> Iterator[str]:
    port = free_port()
    argv = [str(engine / "llama-server"), "-m", model, "-c", "8192", "-fa", "on", "-np", "1", "--port", str(port)]
    argv += ["-t", str(os.cpu_count() or 1), *more]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def ask(url: str, question: str) -> tuple[float, int, int]:
    """tokens/s of the answer, tokens guessed, and how many of them held."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS, "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=300).raise_for_status().json()
    timings = answer["timings"]
    return timings["predicted_per_second"], timings.get("draft_n", 0), timings.get("draft_n_accepted", 0)


def main() -> None:
    engine, model = Path(os.environ["LLMSTACK_TEST_ENGINE"]), sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    with ExitStack() as stack:
        plain, guessing = (stack.enter_context(served(engine, model, *more)) for more in ((), REPEATING))
        for what, question in QUESTIONS.items():
            pairs, guessed, held = [], 0, 0
            for number in range(rounds):
                order = (plain, guessing) if number % 2 else (guessing, plain)
                seen = {url: ask(url, question(number)) for url in order}
                guessed, held = guessed + seen[guessing][1], held + seen[guessing][2]
                pairs.append((seen[plain][0], seen[guessing][0]))
            ratios = sorted(b / a for a, b in pairs)
            a, b = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            print(
                f"{what}: {a:.1f} and {b:.1f} tokens/s, ratio {statistics.median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f}), {held} of {guessed} guesses held"
            )


if __name__ == "__main__":
    main()
