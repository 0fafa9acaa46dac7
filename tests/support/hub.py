"""A server on loopback that speaks as much of the hub's protocol as a pull uses, and misbehaves on request.

HEAD and GET /OWNER/REPO/resolve/REV/FILE (redirect to the content server with X-Linked-Etag, X-Linked-Size and
X-Repo-Commit), GET /api/models/OWNER/REPO/revision/REV, GET /content/FILE with ranges, GET /plain/FILE.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Faults:
    """cut: for the nth content request (from 0), after how many body bytes the socket is closed; None: not.

    pace: bytes per second of a content response, 0 for as fast as it goes.
    """

    cut: Callable[[int], int | None] = lambda number: None
    ignore_range: bool = False
    wrong_range: bool = False
    refuse_range: bool = False
    redirect: str = ""
    status: int = 0
    status_times: int = 1_000_000
    etag: str | None = None
    no_length: bool = False
    gate: threading.Event | None = None
    pace: int = 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what many of these tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass
class HubServer:
    files: dict[str, bytes]
    faults: Faults = field(default_factory=Faults)
    url: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    contents: int = 0
    license: str = ""

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()


@contextmanager
def hub_server(files: dict[str, bytes]) -> Iterator[HubServer]:
    state = HubServer(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def empty(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            state.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self.listing("/".join(parts[2:4]))
            elif len(parts) >= 5 and parts[2] == "resolve":
                self.resolve("/".join(parts[4:]))
            elif parts[0] in ("content", "plain"):
                self.content("/".join(parts[1:]), body)
            else:
                self.empty(404)

        def slowly(self, data: bytes, pace: int) -> None:
            slice_size = max(pace // 20, 1)
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(data), slice_size):
                    self.wfile.write(data[start : start + slice_size])
                    time.sleep(0.05)

        def listing(self, repo: str) -> None:
            siblings = [
                {
                    "rfilename": name,
                    "size": len(data),
                    "lfs": {"size": len(data), "sha256": state.digest(name), "pointerSize": 134},
                }
                for name, data in state.files.items()
            ]
            tags = [f"license:{state.license}"] if state.license else []
            data = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "tags": tags}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def resolve(self, name: str) -> None:
            if name not in state.files:
                self.empty(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            etag = state.faults.etag if state.faults.etag is not None else state.digest(name)
            self.empty(
                302,
                {
                    "Location": state.faults.redirect or f"{state.url}/content/{name}",
                    "X-Linked-Etag": f'"{etag}"',
                    "X-Linked-Size": str(len(state.files[name])),
                    "X-Repo-Commit": COMMIT,
                    "ETag": '"pointer"',
                },
            )

        def content(self, name: str, body: bool) -> None:
            faults, number = state.faults, state.contents
            if body:
                state.contents += 1
                if faults.gate is not None:
                    faults.gate.wait(20)
            if body and faults.status and number < faults.status_times:
                self.empty(faults.status)
                return
            data = state.files[name]
            wanted = self.headers.get("Range", "")
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first or 0), min(int(last), len(data) - 1) if last else len(data) - 1
            if wanted and (faults.refuse_range or start >= len(data)):
                self.empty(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            if wanted and not faults.ignore_range:
                self.send_response(206)
                told = 0 if faults.wrong_range else start
                self.send_header("Content-Range", f"bytes {told}-{end}/{len(data)}")
            else:
                start, end = 0, len(data) - 1
                self.send_response(200)
            rest = data[start : end + 1]
            if faults.no_length:
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(rest)))
            self.send_header("ETag", f'"{state.digest(name)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not body:
                return
            cut = faults.cut(number)
            if faults.pace:
                self.slowly(rest, faults.pace)
                return
            if cut is None:
                self.wfile.write(rest)
                return
            self.wfile.write(rest[:cut])
            self.wfile.flush()
            self.close_connection = True

    server = _Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
