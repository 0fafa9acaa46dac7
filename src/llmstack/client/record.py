"""Learns what Claude Code sends first: it is started once against a recorder on this machine, which refuses it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmstack.client.claude_code import find_claude
from llmstack.client.profile import DEFAULT, environment_of
from llmstack.errors import NotSo
from llmstack.paths import Home

START_S = 90.0
_REFUSAL = json.dumps(
    {"type": "error", "error": {"type": "invalid_request_error", "message": "recorded"}}
).encode()  # a 400 ends the client at once


class _Recorder(BaseHTTPRequestHandler):
    recorded: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.partition("?")[0].endswith("/v1/messages"):
            self.recorded.append(body)
        self._answer(400, _REFUSAL)

    def do_GET(self) -> None:
        self._answer(404, b"{}")

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return None


def record_claude(home: Home, inherited: Mapping[str, str]) -> bytes:
    """The body of `claude -p`'s first request with tools. Raises NotSo when none came, MissingPart without the client.

    Nothing is kept here: the text goes to the stack's own proxy only.
    """
    program = find_claude()
    environment = environment_of(home, DEFAULT, inherited)
    recorded: list[bytes] = []
    handler = type("Recorder", (_Recorder,), {"recorded": recorded})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory(prefix="llmstack-warm-") as folder:
            variables = environment.over(inherited) | {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
            command = [program, *environment.arguments(), "-p", "hello"]
            subprocess.run(
                command,
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=START_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise NotSo(f"Claude Code did not end within {START_S:.0f} s", next="claude --version") from None
    finally:
        server.shutdown()
        server.server_close()
    for body in recorded:
        if json.loads(body).get("tools"):
            return body
    raise NotSo("Claude Code sent no request with tools", next="claude -p hello   shows what it says")
