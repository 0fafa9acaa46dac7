"""stack.json: what is deployed. Written whole at every `up`; the proxy, `status` and `bench` read it."""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.paths import Home, write_private
from llmstack.supervisor import Service


class ModelEntry(msgspec.Struct, frozen=True):
    name: str
    path: str


class ServerEntry(msgspec.Struct, frozen=True):
    """engine: its name; argv: what was started, the engine's command included."""

    host: str
    port: int
    engine: str
    argv: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class ProxyEntry(msgspec.Struct, frozen=True):
    host: str
    port: int

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


class Health(msgspec.Struct, frozen=True):
    """The last health check: tokens/s, tokens, seconds. hit_ratio: cached tokens over all of the second prompt.

    at: seconds since the epoch. answer: what the proxy's client was told, shortened. planned: what the plan expects
    of exactly this work, by name (tokens/s). findings: one sentence, with its reason, for each miss of the plan.
    load: the share of all processors that other programs used meanwhile.
    """

    prefill_tps: float
    decode_tps: float
    prompt_tokens: int
    cached_tokens: int
    hit_ratio: float
    ttft_cold_s: float
    ttft_warm_s: float
    answer: str
    at: float
    planned: dict[str, float] = {}
    findings: tuple[str, ...] = ()
    load: float = 0.0


class Stack(msgspec.Struct, frozen=True):
    """n_ctx: tokens of all slots; n_ctx_slot: of one; n_predict: the longest answer. plan: as `plan --json` says it."""

    model: ModelEntry
    server: ServerEntry
    proxy: ProxyEntry
    n_ctx: int
    n_ctx_slot: int
    n_parallel: int
    n_predict: int
    supervisor: str
    services: tuple[Service, ...]
    capabilities: dict[str, bool] = {}
    plan: dict[str, Any] = {}
    inputs: str = ""  # what the plan was made from, as a digest
    health: Health | None = None


def read(home: Home) -> Stack | None:
    """None when nothing was ever deployed, or when the record is of no use (the next `up` writes it anew)."""
    try:
        return msgspec.json.decode(home.stack.read_bytes(), type=Stack)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(home: Home, stack: Stack) -> None:
    write_private(home.stack, msgspec.json.encode(stack))
