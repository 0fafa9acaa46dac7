"""The warm start, as the proxy is asked for it around a stop and a start. The proxy alone touches slots."""

from __future__ import annotations

from typing import Any

from llmstack.commands import command_line
from llmstack.deploy import acceptance
from llmstack.deploy.listener import refuse_stranger, stranger
from llmstack.deploy.supervisors import supervisor_for
from llmstack.errors import NotSo
from llmstack.paths import Home
from llmstack.stackfile import StackRecord

SAVE_S = 120.0
PREFILL_S = 3600.0  # a long prompt on a slow processor
RESTORE_S = 300.0  # a state of several GiB, checked and read from a slow disk


def make_folder(stack: StackRecord) -> None:
    """llama-server does not start when the folder of its states is missing."""
    folder = stack.running_server().states_folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def save(home: Home, stack: StackRecord | None) -> int:
    """What the slots hold goes to disk, and what was seen of guessed tokens; how many slots they were. 0 when nobody
    answers: a stop never waits for that."""
    if stack is not None and stranger(supervisor_for(home), stack.server.url) is None:
        acceptance.note(home, stack)
    return int(_ask(home, stack, "save", SAVE_S).get("saved", 0))


def restore(home: Home, stack: StackRecord) -> dict[str, Any]:
    """The last state comes back into a server that was just started; empty when the proxy does not answer."""
    return _ask(home, stack, "restore", RESTORE_S)


def warm(home: Home, stack: StackRecord, request: bytes | None) -> dict[str, Any]:
    """Computes or restores the prefix of a Messages request, or without one of the prompt used last.

    Raises NotSo when the proxy or the server does not answer, or another program does.
    """
    refuse_stranger(home, stack.proxy.url, "proxy")
    status = _ask(home, stack, "prefill", PREFILL_S, request or b"")
    if "prefix_tokens" not in status:
        raise NotSo(
            "the proxy could not warm the prompt cache",
            next=f"{command_line('status')}   and   {command_line('logs', 'proxy')}",
        )
    return status


def health(stack: StackRecord) -> dict[str, Any]:
    """The proxy's own /health; empty when it does not answer."""
    import httpx

    try:
        answer = httpx.get(f"{stack.proxy.url}/health", timeout=3, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _ask(home: Home, stack: StackRecord | None, action: str, timeout_s: float, content: bytes = b"") -> dict[str, Any]:
    import httpx

    if stack is None or not home.token.exists() or stranger(supervisor_for(home), stack.proxy.url) is not None:
        return {}
    url = f"{stack.proxy.url}/llmstack/warm/{action}"
    headers = {"x-api-key": home.token.read_text().strip()}
    try:
        limits = httpx.Timeout(timeout_s, connect=2.0)
        answer = httpx.post(url, content=content, headers=headers, timeout=limits, trust_env=False)
        value = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}
