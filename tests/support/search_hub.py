"""A hub of many repositories on loopback: search with pages, a repository at a commit, headers in ranges.

As documented by the hub: lists carry no sizes, sizes and digests come with `blobs=true`, pages by `Link`. A file is its
header and a length: what lies behind the header is zeros that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

PAGE = 20


@dataclass(frozen=True)
class HubFile:
    """header: its first bytes. size: of the whole."""

    header: bytes
    size: int

    @property
    def sha256(self) -> str:
        """Of its bytes where all are here, else of what stands for them."""
        whole = len(self.header) == self.size
        return hashlib.sha256(self.header if whole else self.header + self.size.to_bytes(8, "little")).hexdigest()

    @property
    def pointer(self) -> dict[str, Any]:
        return {"size": self.size, "sha256": self.sha256, "pointerSize": 134}


@dataclass
class HubRepo:
    files: dict[str, HubFile] = field(default_factory=dict)
    commit: str = "a" * 40
    downloads: int = 1000
    gated: bool = False
    license: str = "apache-2.0"
    base: str = ""
    xet: bool = False  # as repositories since 2025: the bytes are behind a bridge, for those who speak no Xet

    def listed(self, name: str) -> dict[str, Any]:
        card = {"license": self.license} | ({"base_model": self.base} if self.base else {})
        return {
            "id": name, "modelId": name, "sha": self.commit, "downloads": self.downloads, "likes": 3, "tags": ["gguf"],
            "gated": "auto" if self.gated else False, "private": False, "cardData": card,
            "lastModified": "2026-11-01T10:00:00.000Z", "createdAt": "2026-10-01T10:00:00.000Z",
        }  # fmt: skip


@dataclass
class SearchHub:
    """status: of every answer, 0 for its own; headers: of that answer. requests: paths, in order."""

    repos: dict[str, HubRepo]
    url: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def search_hub(repos: dict[str, HubRepo]) -> Iterator[SearchHub]:
    hub = SearchHub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            hub.requests.append(parts.path)
            names = parts.path.strip("/").split("/")
            if hub.status:
                self.answer(hub.status, b"{}", hub.headers)
            elif names == ["api", "models"]:
                self.search(parse_qs(parts.query))
            elif names[:2] == ["api", "models"]:
                self.repository("/".join(names[2:4]), names[5] if len(names) > 5 else "main")
            elif names[0] == "xet-bridge":
                self.send_bytes(hub.repos["/".join(names[1:3])].files["/".join(names[3:])], {})
            elif len(names) >= 5 and names[2] == "resolve":
                self.resolve("/".join(names[:2]), names[3], "/".join(names[4:]))
            else:
                self.answer(404, b"{}")

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def search(self, query: dict[str, list[str]]) -> None:
            words = query.get("search", [""])[0].lower().split()
            found = [name for name in hub.repos if all(word in name.lower() for word in words)]
            found.sort(key=lambda name: -hub.repos[name].downloads)
            start, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["1000"])[0])
            page = found[start : start + min(PAGE, limit)]
            headers = {}
            if start + len(page) < len(found):
                more = f"{hub.url}/api/models?search={quote(' '.join(words))}&cursor={start + len(page)}"
                headers["Link"] = f'<{more}>; rel="next"'
            listed = [hub.repos[name].listed(name) for name in page]
            self.answer(200, json.dumps(listed).encode(), {"Content-Type": "application/json", **headers})

        def repository(self, name: str, revision: str) -> None:
            repo = hub.repos.get(name)
            if repo is None:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", repo.commit):
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            else:
                siblings = [
                    {"rfilename": file, "size": one.size, "lfs": one.pointer} for file, one in repo.files.items()
                ]
                body = json.dumps({**repo.listed(name), "siblings": siblings}).encode()
                self.answer(200, body, {"Content-Type": "application/json"})

        def resolve(self, name: str, revision: str, file: str) -> None:
            repo = hub.repos.get(name)
            if repo is None:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            if revision not in ("main", repo.commit):
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            if file not in repo.files:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            if repo.gated:
                self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
                return
            one = repo.files[file]
            about = {
                "X-Linked-Etag": f'"{one.sha256}"', "X-Linked-Size": str(one.size), "X-Repo-Commit": repo.commit,
                "ETag": f'"{one.sha256}"',
            }  # fmt: skip
            if repo.xet:
                about |= {
                    "X-Xet-Hash": hashlib.sha256(one.sha256.encode()).hexdigest(),
                    "Link": f'<{hub.url}/api/models/{name}/xet-read-token/{repo.commit}>; rel="xet-auth"',
                }
                if self.command == "HEAD":  # huggingface_hub reads these, and follows no redirect to another host
                    self.answer(200, bytes(one.size), about)
                else:
                    bridge = f"{hub.url}/xet-bridge/{name}/{file}?X-Amz-Signature=0"
                    self.answer(302, b"", {**about, "Location": bridge})
                return
            self.send_bytes(one, about)

        def send_bytes(self, one: HubFile, about: dict[str, str]) -> None:
            wanted = self.headers.get("Range", "")
            if not wanted:
                self.send_response(200)
                for key, value in about.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(one.size))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(one.header + bytes(one.size - len(one.header)))
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or one.size - 1), one.size - 1)
            body = one.header[start : end + 1]
            body += bytes(end + 1 - start - len(body))
            self.answer(206, body, {**about, "Content-Range": f"bytes {start}-{end}/{one.size}"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
