"""Published speeds with this planner's prediction beside each: `python -m benchmarks.planner.points`."""

from __future__ import annotations

from support.planner.points import table

if __name__ == "__main__":
    print(table())
