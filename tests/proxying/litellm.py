"""The real LiteLLM proxy, in a virtual environment of its own, pinned by lock/litellm.txt."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from proxying.stand import free_port

KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
LOCK = Path(__file__).resolve().parents[2] / "lock" / "litellm.txt"


def install() -> Path:
    """Its `litellm` program; made once per lock file, in the user's cache folder."""
    stamp = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmstack-tests"
    place = cache / f"litellm-{stamp}"
    program = place / "bin" / "litellm"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "litellm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "made").exists():
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
            uv = shutil.which("uv")
            python = str(place / "bin" / "python")
            if uv:
                command = [uv, "pip", "install", "--python", python, "--require-hashes", "-r", str(LOCK)]
            else:
                subprocess.run([python, "-m", "ensurepip"], check=True, capture_output=True)
                command = [python, "-m", "pip", "install", "-q", "--require-hashes", "-r", str(LOCK)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"LiteLLM could not be installed:\n{done.stderr[-2000:]}"
            (place / "made").touch()
    return program


@contextlib.contextmanager
def running(
    folder: Path, upstream_url: str, *, models: list[dict[str, object]] | None = None, **more: str
) -> Iterator[str]:
    """Its URL. Every model name goes to the scripted upstream, by OpenAI's protocol; or as `models` says.

    more: variables of its environment, such as LITELLM_MASTER_KEY.
    """
    program, port = install(), free_port()
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
            [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
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
