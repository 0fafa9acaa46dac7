"""`python -m llmstack`, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    from llmstack.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
