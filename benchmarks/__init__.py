"""Scripts that make the figures and screens of docs/. Each prints what it measured and says how; none is a test.

Run from the checkout with the Python of `./stack test`: `.venv/bin/python -m benchmarks.planner.oracle`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # `support` lies there
