"""Every step of every command with every outcome, or of those that are named; with the rows of docs/reliability.md.

`--count` only counts the steps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from support.every_step.effects import OUTCOMES
from support.every_step.harness import Stage, serving, trials_of
from support.every_step.scenes import SCENES


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name != "--count"]
    bad, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmstack-steps-") as folder, serving() as hub:
        for number, scene in enumerate(SCENES):
            if names and scene.command not in names:
                continue
            stage = Stage(scene, Path(folder) / str(number), hub)
            try:
                if stage.clean.status:
                    print(f"{scene.title}: without a fault it ends with {stage.clean.status}: {stage.clean.err[-300:]}")
                trials = [] if "--count" in arguments else [stage.trial(*one) for one in trials_of(stage)]
            finally:
                stage.close()
            for trial in trials:
                if trial.wrong:
                    bad += 1
                    print(str(trial)[:700])
            steps, when = len(stage.steps), "with `--long`" if scene.long else "a sample of each run"
            print(f"| `{scene.title}` | {steps} | {len(OUTCOMES)} | {steps * len(OUTCOMES)} | {when} |", flush=True)
    print(f"{bad} went wrong, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
