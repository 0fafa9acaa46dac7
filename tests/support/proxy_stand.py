"""A real proxy process in a home of its own, and a plain client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support.wait import free_port

TOKEN = "token-of-the-tests"
START_S = 60.0  # on a busy machine


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """(name, data) of each server-sent event."""
        found = []
        for part in self.data.decode().split("\n\n"):
            lines = dict(line.partition(": ")[::2] for line in part.strip().split("\n") if not line.startswith(":"))
            if "data" in lines:
                found.append((lines.get("event", ""), json.loads(lines["data"])))
        return found

    @property
    def said(self) -> str:
        return "".join(e["delta"].get("text", "") for name, e in self.events if name == "content_block_delta")


def ask(text: str = "hi", *, stream: bool = True, model: str = "m", **more: Any) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
    return {**body, "stream": True} if stream else body


class ProxyStand:
    """home holds the proxy's files; start() runs `llmstack serve-proxy` on them."""

    def __init__(
        self, root: Path, upstream_port: int | None = None, *, models: str | None = None, **deployed: Any
    ) -> None:
        self.root = root
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = root / "proxy.log"
        self.log_from = 0
        for folder in ("config", "state", "data", "cache"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.token_path = root / "state" / "token"
        self.token_path.write_text(TOKEN + "\n")
        self.token_path.chmod(0o600)
        if models is not None:
            self.write_models(models)
        if upstream_port is not None:
            self.deploy(upstream_port, **deployed)

    def write_models(self, text: str) -> None:
        new = self.root / "config" / "models.toml.new"
        new.write_text(text)
        new.replace(self.root / "config" / "models.toml")

    def deploy(self, port: int, **fields: Any) -> None:
        record = {
            "model": {"name": "demo-model", "path": "/x.gguf"},
            "server": {"host": "127.0.0.1", "port": port},
            "n_ctx": 65536,
            "n_ctx_slot": 65536,
            "n_parallel": 1,
            "n_predict": 8192,
            "capabilities": {"vision": False},
            **fields,
        }
        path = self.root / "state" / "stack.json"
        path.with_suffix(".new").write_text(json.dumps(record))
        path.with_suffix(".new").replace(path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget_log(self) -> None:
        """`log` shows only what comes from now on."""
        self.log_from = self.log_path.stat().st_size

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_bytes()[self.log_from :].decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == "request"]

    def start(self, *arguments: str, **environment: str) -> ProxyStand:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LLMSTACK_", "NOTIFY", "WATCHDOG"))}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "llmstack", "serve-proxy", "--port", str(self.port), *arguments],
                env=inherited | {"LLMSTACK_HOME": str(self.root)} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_path.read_text()
            with contextlib.suppress(OSError):
                if self.get("/health").status == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the proxy did not answer within {START_S:g} s")

    def stop(self, limit_s: float = 35.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(limit_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def usage(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)

    # ---- asking -------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        timeout_s: float = 30.0,
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if token is not None:
                sent.setdefault("x-api-key", token)
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, body: Any, path: str = "/v1/messages", **options: Any) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, content_type="application/json", **options)

    def raw(self, data: bytes = b"", timeout_s: float = 15.0) -> socket.socket:
        """A connection with some bytes sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        if data:
            connection.sendall(data)
        return connection

    def head(self, body: Any, path: str = "/v1/messages") -> bytes:
        """A whole request as bytes, for `raw`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nx-api-key: {TOKEN}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        ).encode() + data


@contextlib.contextmanager
def standing(
    root: Path, upstream_port: int | None = None, *arguments: str, models: str | None = None, **deployed: Any
) -> Iterator[ProxyStand]:
    stand = ProxyStand(root, upstream_port, models=models, **deployed)
    stand.start(*arguments)
    try:
        yield stand
    finally:
        stand.stop()
        assert "Traceback" not in stand.log_path.read_text(), stand.log_path.read_text()[-4000:]
