"""First-token time of the real Claude Code, cold, warm, after a restart of the whole stack, and in another directory.

    .venv/bin/python tests/bench/warm/first_token.py PATH_OF_CLAUDE [MODEL]

Starts a stack in a home of its own (the demo model unless MODEL is given) and ends it. The time is the whole run of the
request in the proxy, of which the demo's short answer is a small part; the client's own start is not in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from proxying.stand import free_port
from warming.talk import events


def main(claude: str, model: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="llmstack-bench-") as folder:
        home = Path(folder)
        environment = os.environ | {"LLMSTACK_HOME": str(home / "stack")}

        def stack(*arguments: str) -> None:
            command = [sys.executable, "-m", "llmstack", *arguments]
            subprocess.run(command, env=environment, check=True, capture_output=True)

        port = free_port()
        stack("up", model or "--demo", "--port", str(port), "--server-port", str(free_port()))
        try:
            _figures(home, claude, port, stack)
        finally:
            stack("down")


def _figures(home: Path, claude: str, port: int, stack: Any) -> None:
    cold = _run(home, claude, port, "one")
    warm = _run(home, claude, port, "one")
    stack("restart")
    restarted = _run(home, claude, port, "one")
    other = _run(home, claude, port, "two")
    print(f"{'':<20}{'seconds':>9}{'tokens':>9}{'reused':>9}{'computed':>9}")
    for name, line in (("cold", cold), ("warm", warm), ("after a restart", restarted), ("another directory", other)):
        reused = line["prefix"]["reused"]
        told = (line["total_ms"] / 1000, line["tokens_in"], reused, line["tokens_in"] - reused)
        print(f"{name:<20}{told[0]:>9.2f}{told[1]:>9,}{told[2]:>9,}{told[3]:>9,}")
    print(f"after a restart: {restarted['total_ms'] / warm['total_ms']:.2f} x warm, ", end="")
    print(f"{cold['total_ms'] / restarted['total_ms']:.1f} x faster than cold")


def _run(home: Path, claude: str, port: int, directory: str) -> dict[str, Any]:
    work = home / directory
    work.mkdir(exist_ok=True)
    token = (home / "stack" / "state" / "token").read_text().strip()
    names = ("ANTHROPIC_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in ("OPUS", "SONNET", "HAIKU")))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_AUTH_TOKEN": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
        "NO_PROXY": "127.0.0.1",
        **dict.fromkeys(names, "local-model"),
    }
    # Each run asks something else: the same words would flatter the figure of the second.
    words = f"ping {os.urandom(3).hex()}"
    subprocess.run([claude, "-p", words], env=environment, cwd=work, check=True, capture_output=True, timeout=900)
    log = home / "stack" / "state" / "logs" / "proxy.log"
    answered = [line for line in events(log, "request") if line["path"] == "/v1/messages" and line["status"] == 200]
    return max(answered[-2:], key=lambda line: line["tokens_in"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
