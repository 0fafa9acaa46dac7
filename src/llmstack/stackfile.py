"""stack.json: what is deployed. `up` writes it whole; the proxy, `status`, `bench` and the next `up` read it.

Two formats are read. Format 1 (until November 2026, without a number) kept the plan as `plan --json` prints it; of such
a file everything but the plan is used. The next `up` plans anew and writes format 2, with the planner's own `Plan`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from llmstack.paths import Home, write_private
from llmstack.supervisor import Service

if TYPE_CHECKING:
    from llmstack.plan import Goal, Plan

FORMAT = 2
PROXY_PORT, SERVER_PORT, TLS_PORT = 5000, 8080, 5443  # where nobody says otherwise
DEFAULT_CACHE_RAM_MIB = 8192  # llama-server's own default of -cram (common/common.h, cache_ram_mib)
_NOTHING = msgspec.Raw(b"null")


class ModelEntry(msgspec.Struct, frozen=True):
    """name: what clients call it. path: its GGUF, the first shard of a split one."""

    name: str
    path: str


class ServerEntry(msgspec.Struct, frozen=True):
    """engine: its name; argv: what was started, the engine's command included."""

    host: str
    port: int
    engine: str = ""
    argv: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return url_of(self.host, self.port)


class TlsEntry(msgspec.Struct, frozen=True):
    """Where the proxy listens with TLS, for other machines. cert, key: files of the user's, in PEM."""

    host: str
    port: int
    cert: str
    key: str


class ProxyEntry(msgspec.Struct, frozen=True):
    """allow_hosts: names besides the loopback ones that clients may call it by. tls: a second listener, for others;
    host and port are then this machine's own."""

    host: str = "127.0.0.1"
    port: int = PROXY_PORT
    allow_hosts: tuple[str, ...] = ()
    tls: TlsEntry | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches it: an address that means every interface becomes loopback."""
        return url_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it."""
        return self.tls is not None or self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether they do without TLS."""
        return self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback


class HealthRecord(msgspec.Struct, frozen=True):
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


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The deployed llama-server, as those see it who talk to it. Tokens: n_ctx of all slots, n_ctx_slot of one.

    argv: the engine's command and all flags. n_predict: the longest answer. recurrent: its state cannot be rolled
    back. sliding_window: it keeps a sliding window only (no --swa-full). keeps_checkpoints: what it saves holds points
    to return to. cache_ram_mib: its own prompt cache (-cram), -1 for no limit. states_folder: where it saves slots
    (--slot-save-path), None when it saves none.
    """

    model: str
    model_path: str
    host: str
    port: int
    argv: tuple[str, ...]
    n_ctx: int
    n_ctx_slot: int
    n_parallel: int
    n_predict: int
    vision: bool
    recurrent: bool
    sliding_window: bool
    cache_ram_mib: int
    states_folder: Path | None
    keeps_checkpoints: bool = False

    @property
    def url(self) -> str:
        """Without a trailing slash or /v1."""
        return url_of(self.host, self.port)

    @property
    def rolls_back(self) -> bool:
        """Whether a slot can keep the beginning of what it holds: of its cells (llama_memory_seq_rm of a part), or from
        a checkpoint on."""
        return self.keeps_checkpoints or not (self.recurrent or self.sliding_window)

    @property
    def saves_in_vain(self) -> bool:
        """Whether what it saves is of no use to it later: of a window only the last cells are in the file."""
        return self.sliding_window and not self.keeps_checkpoints


class StackRecord(msgspec.Struct, frozen=True):
    """n_ctx: tokens of all slots; n_ctx_slot: of one; n_predict: the longest answer. recurrent, sliding_window: see
    RunningServer. pins: the flags that the user pinned, by flag. inputs: a digest of what the plan was made from.

    stored_plan: the plan's JSON; `plan` decodes it, so that who needs none doesn't load the planner. stored_goal: what
    was asked for, before the catalog, what was tuned and the files that were found had added to it.
    """

    model: ModelEntry
    server: ServerEntry
    proxy: ProxyEntry = ProxyEntry()
    n_ctx: int = 0
    n_ctx_slot: int = 0
    n_parallel: int = 1
    n_predict: int = -1
    supervisor: str = "process"
    services: tuple[Service, ...] = ()
    capabilities: dict[str, bool] = {}
    recurrent: bool = False
    sliding_window: bool = False
    keeps_checkpoints: bool = False
    stored_plan: msgspec.Raw = msgspec.field(name="plan", default=_NOTHING)
    stored_goal: msgspec.Raw = msgspec.field(name="goal", default=_NOTHING)
    pins: dict[str, str] = {}
    inputs: str = ""
    health: HealthRecord | None = None
    format: int = FORMAT

    @property
    def plan(self) -> Plan | None:
        """The very plan that is deployed; None when the file was written by a llmstack whose plans had other fields."""
        from llmstack.plan.result import Plan

        try:
            return msgspec.json.decode(self.stored_plan, type=Plan | None)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    @property
    def goal(self) -> Goal | None:
        """What `up` was asked for; None where the file does not say.

        Until November 2026 it had only the pins, the context among them: what was pinned was asked for.
        """
        from llmstack.llama_server.flags import pinnable_flag
        from llmstack.plan import Goal

        try:
            goal = msgspec.json.decode(self.stored_goal, type=Goal | None)
        except (msgspec.DecodeError, UnicodeDecodeError):
            goal = None
        if goal is not None or not self.pins:
            return goal
        pins = {flag.lstrip("-"): value for flag, value in self.pins.items() if pinnable_flag(flag) is not None}
        slots = int(pins.pop("np", "0")) if self.pins.get("-np", "0").isdigit() else 0
        ctx = self.n_ctx_slot or None if pins.pop("c", None) is not None else None
        return Goal(ctx=ctx, parallel=slots or None, pins=pins)

    def running_server(self) -> RunningServer:
        argv = self.server.argv
        folder = _value(argv, "--slot-save-path")
        return RunningServer(
            model=self.model.name,
            model_path=self.model.path,
            host=self.server.host,
            port=self.server.port,
            argv=argv,
            n_ctx=self.n_ctx,
            n_ctx_slot=self.n_ctx_slot or self.n_ctx,
            n_parallel=self.n_parallel,
            n_predict=self.n_predict,
            vision=self.capabilities.get("vision", False),
            recurrent=self.recurrent,
            sliding_window=self.sliding_window,
            keeps_checkpoints=self.keeps_checkpoints,
            cache_ram_mib=_cache_ram_mib(_value(argv, "-cram")),
            states_folder=Path(folder) if folder is not None else None,
        )


class ProxyAlone(msgspec.Struct, frozen=True):
    """The proxy, deployed without a server: upstreams elsewhere answer. supervisor: its kind."""

    proxy: ProxyEntry
    supervisor: str
    service: Service


def read_alone(home: Home) -> ProxyAlone | None:
    """None when the proxy was not deployed alone, or came to a server since."""
    try:
        return msgspec.json.decode(home.proxy_alone.read_bytes(), type=ProxyAlone)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_alone(home: Home, alone: ProxyAlone | None) -> None:
    if alone is None:
        home.proxy_alone.unlink(missing_ok=True)
    else:
        write_private(home.proxy_alone, msgspec.json.encode(alone))


def read_proxy(home: Home) -> ProxyEntry | None:
    """Where the proxy listens, or would when it is started again; None when none was deployed."""
    alone, stack = read_alone(home), read(home)
    return alone.proxy if alone is not None else stack.proxy if stack is not None else None


def services(home: Home) -> tuple[Service, ...]:
    """What is deployed now, as services."""
    alone, stack = read_alone(home), read(home)
    return (alone.service,) if alone is not None else stack.services if stack is not None else ()


def stored(value: Plan | Goal | None) -> msgspec.Raw:
    """A plan or a goal as a StackRecord keeps it."""
    return msgspec.Raw(msgspec.json.encode(value))


def read(home: Home) -> StackRecord | None:
    """None when nothing was ever deployed, or when the record is of no use (the next `up` writes it anew)."""
    try:
        return decode(home.stack.read_bytes())
    except (FileNotFoundError, IsADirectoryError, msgspec.DecodeError):
        return None


def write(home: Home, record: StackRecord) -> None:
    write_private(home.stack, msgspec.json.encode(record))


def decode(data: bytes | msgspec.Raw) -> StackRecord:
    """Of either format. Raises msgspec.DecodeError for anything else."""
    try:
        return _decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _decode(data: bytes | msgspec.Raw) -> StackRecord:
    record = msgspec.json.decode(data, type=StackRecord)
    if msgspec.json.decode(data, type=_Head).format >= FORMAT:
        return record
    try:
        printed = msgspec.json.decode(record.stored_plan, type=_PrintedPlan)
    except msgspec.DecodeError:
        printed = _PrintedPlan()
    return msgspec.structs.replace(
        record,
        recurrent=printed.model.recurrent,
        sliding_window=printed.model.sliding_window > 0 and "--swa-full" not in record.server.argv,
        pins={decision.flag: decision.value for decision in printed.decisions if decision.pinned},
        stored_plan=_NOTHING,
        format=FORMAT,
    )


class _Head(msgspec.Struct):
    format: int = 1


class _PrintedModel(msgspec.Struct):
    """Of format 1: `model` of `plan --json`. sliding_window: tokens, 0 for none."""

    recurrent: bool = False
    sliding_window: int = 0


class _PrintedDecision(msgspec.Struct):
    flag: str
    value: str
    pinned: bool = False


class _PrintedPlan(msgspec.Struct):
    model: _PrintedModel = msgspec.field(default_factory=_PrintedModel)
    decisions: tuple[_PrintedDecision, ...] = ()


def url_of(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _value(argv: Sequence[str], flag: str) -> str | None:
    return argv[argv.index(flag) + 1] if flag in argv[:-1] else None


def _cache_ram_mib(value: str | None) -> int:
    try:
        return int(value) if value is not None else DEFAULT_CACHE_RAM_MIB
    except ValueError:
        return DEFAULT_CACHE_RAM_MIB
