"""A loopback host that answers like GitHub's release API, and serves archives made here from a really built engine."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = "/repos/ggml-org/llama.cpp/releases"
PROGRAMS = ("llama-server", "llama-bench")


def archive_of(engine: Path, tag: str, **more: bytes) -> bytes:
    """As a release packs it: one top folder, programs and libraries with their links. more: further files by name."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=1) as tar:
        for file in sorted(engine.iterdir()):
            if file.name in PROGRAMS and file.name not in more:
                tar.add(file, f"llama-{tag}/{file.name}")
            elif ".so" in file.name:
                tar.add(file, f"llama-{tag}/{file.name}", recursive=False)
        for name, data in more.items():
            _add(tar, f"llama-{tag}/{name}", data)
    return sink.getvalue()


def archive_with(*members: tuple[str, bytes]) -> bytes:
    """Files under the very names given."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=1) as tar:
        for name, data in members:
            _add(tar, name, data)
    return sink.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    tar.addfile(entry, io.BytesIO(data))


@dataclass
class ReleaseHost:
    """releases: files by tag. stable: the b-tag that `releases/latest` names; its own files where it is a b-tag itself.

    rate_limited: 403 as GitHub says it. cut_after: bytes of the next download's first answer. digests: instead of the
    true ones, by name. wall: another answer than the API's.
    """

    releases: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stable: str = ""
    rate_limited: bool = False
    cut_after: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    wall: bytes = b""
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def described(self, tag: str) -> dict[str, Any]:
        files = self.releases[tag]
        return {"tag_name": tag, "prerelease": tag.startswith("b"), "assets": [
            {"name": name, "size": len(data), "browser_download_url": f"{self.url}/download/{tag}/{name}",
             "digest": self.digests.get(name, f"sha256:{hashlib.sha256(data).hexdigest()}")}
            for name, data in files.items()
        ]}  # fmt: skip

    def answer(self, path: str) -> tuple[int, Any]:
        if path == f"{REPOSITORY}/latest":
            return 200, self.described(self.stable)
        if path.startswith(f"{REPOSITORY}/tags/"):
            tag = path.rpartition("/")[2]
            return (200, self.described(tag)) if tag in self.releases else (404, {"message": "Not Found"})
        if path.startswith(f"{REPOSITORY}?"):
            return 200, [self.described(tag) for tag in sorted(self.releases, reverse=True)]
        return 404, {"message": "Not Found"}


@contextlib.contextmanager
def release_host(**fields: Any) -> Iterator[ReleaseHost]:
    host = ReleaseHost(**fields)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            host.asked.append((self.path, dict(self.headers)))
            if self.path.startswith("/download/"):
                self._download()
            elif host.rate_limited:
                self._send(403, b'{"message": "API rate limit exceeded"}',
                           {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795900000"})  # fmt: skip
            elif host.wall:
                self._send(200, host.wall, {})
            else:
                status, value = host.answer(self.path)
                self._send(status, json.dumps(value).encode(), {})

        def _download(self) -> None:
            tag, name = self.path.split("/")[2:4]
            data = host.releases[tag][name]
            begin = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            total, body = len(data), data[begin:]
            headers = {"Content-Range": f"bytes {begin}-{total - 1}/{total}"} if begin else {}
            self.send_response(206 if begin else 200)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            cut = host.cut_after if name.endswith(".tar.gz") else 0
            host.cut_after -= cut
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body[:cut] if cut else body)
            if cut:
                self.close_connection = True

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
