"""What the checks look at, and the report they make. Records only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmstack.engine.advisories import Advisory
from llmstack.findings import Finding, Level
from llmstack.hardware import Hardware


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """problem: why there is none that can be used; refused: others that are here, each with its reason. fork: the fork
    of llama.cpp that it is. advisories: holes of llama.cpp that this build still has."""

    name: str = ""
    version: str = ""
    build: int | None = None
    minimum: int = 0
    backends: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""
    refused: Mapping[str, str] | None = None
    fork: str = ""
    advisories: tuple[Advisory, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuHolder:
    """A process with memory on a GPU; mib is None where the driver does not say."""

    pid: int
    program: str
    mib: int | None
    ours: bool


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """kernel_driver, library: versions, None where absent. uvm_node: /dev/nvidia-uvm is there.

    pci_cards: NVIDIA's on the bus; driver_cards: those that its driver shows.
    """

    warnings: tuple[str, ...] = ()
    kernel_driver: str | None = None
    library: str | None = None
    library_problem: str = ""
    pci_cards: int = 0
    driver_cards: int = 0
    uvm_node: bool = True
    holders: tuple[GpuHolder, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskFacts:
    path: str
    free_mib: int


@dataclass(frozen=True, slots=True)
class PortFacts:
    """owner_pid is None and owner empty when nothing listens; taken: something listens there."""

    service: str
    host: str
    port: int
    taken: bool
    owner_pid: int | None = None
    owner: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class SupervisorFacts:
    """systemd_problem: why no user manager can be used, None when one can."""

    kind: str
    systemd_problem: str | None
    linger: bool
    linger_command: str
    journal_answers: bool
    journal_readable: bool
    tier: str
    drifted: Mapping[str, str]
    drop_ins: tuple[str, ...] = ()
    unit_problem: str = ""


@dataclass(frozen=True, slots=True)
class SecretFacts:
    path: str
    exists: bool
    mode: int = 0
    owner_is_us: bool = True


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    name: str
    state: str
    last_exit: str | None = None
    restarts: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What is deployed; None in `DoctorFacts` when nothing is. planned_host_mib: host memory the plan counts on.

    cause, next: of a stack that failed, as `status` says them. served: what the engine did at its last start, in words,
    empty where that is not known; served_findings: where it is not what was planned. refused: what the proxy keeps from
    the engine, in a sentence, or ""; last_words: of the engine that died on it.
    n_ctx_slot: tokens of one conversation. warnings: what the model can't do, or has otherwise than asked for.
    """

    state: str
    url: str
    model: str
    model_path: str
    model_exists: bool
    model_mib: int
    n_parallel: int
    services: tuple[ServiceFacts, ...]
    planned_host_mib: int | None = None
    smaller_plan: str = ""
    refused: str = ""
    last_words: str = ""
    cause: str = ""
    next: str = ""
    served: str = ""
    served_findings: tuple[Finding, ...] = ()
    n_ctx_slot: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyFacts:
    """Answers of the running proxy. routes: model name to HTTP status of a count_tokens with it."""

    reachable: bool
    problem: str = ""
    token_status: int | None = None
    open_status: int | None = None
    routes: Mapping[str, int] | None = None
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Claude Code and what may lead it elsewhere. settings: file to the names of keys that fight ours."""

    program: str | None = None
    version: str = ""
    settings: Mapping[str, tuple[str, ...]] | None = None
    broken_settings: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    token_matches: bool | None = None
    proxy_variables: tuple[str, ...] = ()
    no_proxy_covers: bool = True


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """behind_s: how far the clock is behind the newest file of this installation."""

    behind_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    hardware: Hardware
    engine: EngineFacts
    gpu: GpuFacts
    disks: tuple[DiskFacts, ...]
    supervisor: SupervisorFacts
    secrets: tuple[SecretFacts, ...]
    catalog_problem: str
    fetched_catalog_problem: str
    clock: ClockFacts
    client: ClientFacts
    ports: tuple[PortFacts, ...] = ()
    stack: StackFacts | None = None
    proxy: ProxyFacts | None = None
    alone: str = ""  # where the proxy is deployed without a server, and its state
    unrecorded: str = ""  # why nobody can say what is deployed
    reach: str = ""  # who else reaches the proxy
    reached_by_tls: bool = False
    barred: tuple[str, ...] = ()  # what keeps others out: the keys' file, the certificate
    outdated: str = ""  # which services run files from before an update
    outdated_remedy: str = ""
    web: str = ""  # who searches the web for side calls
    web_key: str = "none"  # as web_settings.key_state has it


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """ok: no check failed (warnings are no failures)."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.status is not Level.FAIL for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        counts = {level.value: sum(f.status is level for f in self.findings) for level in Level}
        return {"ok": self.ok, "counts": counts, "checks": [finding.to_json() for finding in self.findings]}


Check = Callable[[DoctorFacts], Iterator[Finding]]
