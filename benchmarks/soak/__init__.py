"""A stack under load for an hour, and a stack that is killed again and again.

| module   | what it does                                                                    |
| -------- | ------------------------------------------------------------------------------- |
| load     | clients of both dialects: patient, leaving, wrong; and an upstream that misbehaves |
| growth   | memory, descriptors, tasks and the answer to /health over time: their slopes      |
| kills    | rounds by seed: who is killed or stopped, and whether the stack comes back         |

    python -m benchmarks.soak --minutes 60            # the figures, beside those of the last run
    python -m benchmarks.soak --kills 200 --seed 1
"""
