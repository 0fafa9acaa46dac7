"""The real LiteLLM proxy, in a virtual environment of its own, pinned by lock/litellm.txt."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from support import paths
from support.programs import installed, run
from support.wait import free_port

KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
LOCK = paths.LOCK / "litellm.txt"


def program() -> Path:
    """Its `litellm` program, one per lock file."""
    return installed(f"litellm-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}", _make) / "bin" / "litellm"


def _make(folder: Path) -> None:
    # --no-deps: the lock names every package. Resolving, pip before 23.1 takes a package wanted with an extra
    # (`pydantic[email]`) for one that the lock does not pin, and refuses.
    run([sys.executable, "-m", "venv", folder])
    run([folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", LOCK])


@contextlib.contextmanager
def running(
    folder: Path, upstream_url: str, *, models: list[dict[str, object]] | None = None, **more: str
) -> Iterator[str]:
    """Its URL. Every model name goes to the scripted upstream, by OpenAI's protocol; or as `models` says.

    more: variables of its environment, such as LITELLM_MASTER_KEY.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    every: dict[str, object] = {
        "model_name": "*",
        "litellm_params": {"model": "hosted_vllm/scripted", "api_base": f"{upstream_url}/v1", "api_key": "k"},
    }
    settings = {
        "model_list": [every] if models is None else models,
        "litellm_settings": {"telemetry": False, "num_retries": 0, "drop_params": True},
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    environment = {
        "LITELLM_MASTER_KEY": KEY,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
        **more,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program(), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health/liveliness", timeout=2).read()
                break
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
