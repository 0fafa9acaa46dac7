"""Each fault of a machine or a stack gets its finding, with a remedy; a sound one gets none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmstack.deploy.outdated import OutdatedService
from llmstack.deploy.status import StackState, StackStatus, Warm
from llmstack.doctor.bundle import redact
from llmstack.doctor.client import CHECKED, claude_code
from llmstack.doctor.facts import (
    ClientFacts,
    ClockFacts,
    DiskFacts,
    DoctorFacts,
    EngineFacts,
    GpuFacts,
    GpuHolder,
    PortFacts,
    ProxyFacts,
    SecretFacts,
    ServiceFacts,
    StackFacts,
    SupervisorFacts,
)
from llmstack.doctor.gather_client import covers_loopback, fighting_keys
from llmstack.doctor.gather_machine import kernel_driver, pci_cards
from llmstack.doctor.run import diagnose
from llmstack.engine.advisories import open_in
from llmstack.findings import Finding, Level
from llmstack.hardware import Cpu, Device, Hardware, Ram
from support.claude_code import VERSIONS

CARD = Device("NVIDIA GeForce RTX 4070", "CUDA", 12282, 11500)
STACK = StackFacts(
    "ready", "http://127.0.0.1:5000", "qwen", "/m/q.gguf", True, 9000, 2, (ServiceFacts("server", "running"),), 8000
)
SOUND = DoctorFacts(
    hardware=Hardware(Ram(32000, 20000), Cpu(8, 16), (CARD,)),
    engine=EngineFacts("cuda-11434", "11434", 11434, 11393, ("cuda", "cpu")),
    gpu=GpuFacts(kernel_driver="580.1", library="580.1", pci_cards=1),
    disks=(DiskFacts("/m", 50_000),),
    supervisor=SupervisorFacts("systemd", None, True, "loginctl enable-linger me", True, True, "full", {}),
    secrets=(SecretFacts("/s/token", True, 0o600), SecretFacts("/s/server.key", True, 0o600)),
    catalog_problem="",
    fetched_catalog_problem="",
    clock=ClockFacts(),
    client=ClientFacts("/usr/bin/claude", "2.1.197 (Claude Code)"),
    ports=(PortFacts("proxy", "127.0.0.1", 5000, True, 7, "python", True),),
    stack=STACK,
    proxy=ProxyFacts(True, "", 200, 401, {"qwen": 200, "claude-haiku-4-5-20251001": 200}),
)


def test_what_nobody_can_say_or_others_can_reach_is_found() -> None:
    damaged = diagnose(replace(SOUND, stack=None, unrecorded="the record of the deployed stack is damaged: /s"))
    assert any(f.status is Level.FAIL and "damaged" in f.finding and "up MODEL" in f.remedy for f in damaged.findings)
    reached = diagnose(replace(SOUND, reach="other machines reach the proxy at http://192.0.2.7:5000"))
    assert any(f.status is Level.WARN and "--listen 127.0.0.1" in f.remedy for f in reached.findings)
    gone = diagnose(replace(SOUND, stack=replace(STACK, model_exists=False)))
    assert any(f.name == "model" and f.remedy.endswith("up MODEL") for f in gone.findings)


def test_a_sound_machine_with_a_sound_stack_has_nothing_to_report() -> None:
    report = diagnose(SOUND)
    assert report.ok
    assert [finding for finding in report.findings if finding.status is not Level.OK] == []
    assert report.to_json()["counts"]["ok"] == len(report.findings) >= 15


def gpu(**more: Any) -> DoctorFacts:
    return replace(SOUND, gpu=replace(SOUND.gpu, **more))


def without_cards(**more: Any) -> DoctorFacts:
    return replace(gpu(**more), hardware=replace(SOUND.hardware, devices=()))


def machine(**more: Any) -> DoctorFacts:
    return replace(SOUND, supervisor=replace(SOUND.supervisor, **more))


def client(**more: Any) -> DoctorFacts:
    return replace(SOUND, client=replace(SOUND.client, **more))


def proxied(**more: Any) -> DoctorFacts:
    assert SOUND.proxy is not None
    return replace(SOUND, proxy=replace(SOUND.proxy, **more))


def stacked(**more: Any) -> DoctorFacts:
    return replace(SOUND, stack=replace(STACK, **more))


OOM = ServiceFacts("server", "failed", "out of memory: the kernel killed it", 5)
ILLEGAL = ServiceFacts("server", "failed", "killed by SIGILL", 5)

FAULTS: list[tuple[str, DoctorFacts, str, Level, str, str]] = [
    # what, facts, check, level, a word of the finding, a word of the remedy
    (
        "a request that the engine died on",
        stacked(
            refused="the engine died on 1 request, which the proxy refuses now", last_words="GGML_ASSERT(x) failed"
        ),
        "stack",
        Level.WARN,
        "died on 1 request",
        "restart server",
    ),
    (
        "no engine",
        replace(SOUND, engine=EngineFacts(problem="there is no engine")),
        "engine",
        Level.FAIL,
        "no engine",
        "engine install",
    ),
    (
        "an engine too old beside a good one (fault 31)",
        replace(
            SOUND, engine=replace(SOUND.engine, refused={"/usr/bin/llama-server": "build 5000 is older than 11393"})
        ),
        "engine",
        Level.WARN,
        "older than 11393",
        "engine install",
    ),
    (
        "an engine open to what the network can reach (fault 72)",
        replace(SOUND, engine=replace(SOUND.engine, advisories=open_in(11549, rpc=True))),
        "engine",
        Level.WARN,
        "CVE-2026-137567 is open in cuda-11434",
        "engine install",
    ),
    (
        "an engine whose holes cannot be told",
        replace(SOUND, engine=replace(SOUND.engine, build=None, fork="ik_llama.cpp", version="3900")),
        "engine",
        Level.WARN,
        "ik_llama.cpp, a fork of llama.cpp",
        "engine list",
    ),
    (
        "only an engine too old (fault 31)",
        replace(SOUND, engine=EngineFacts(problem="build 5000 is older than 11393", remedy="llmstack engine install")),
        "engine",
        Level.FAIL,
        "11393",
        "engine install",
    ),
    (
        "a card that is lost (fault 57)",
        gpu(warnings=("GPU 0 cannot be read (GPU is lost) and is left out",)),
        "gpu",
        Level.FAIL,
        "a card is lost",
        "sudo reboot",
    ),
    (
        "the only card is lost (fault 57)",
        without_cards(warnings=("GPU 0 cannot be read (GPU is lost) and is left out",)),
        "gpu",
        Level.FAIL,
        "a card is lost",
        "sudo reboot",
    ),
    (
        "a card lost while the server computed (fault 57)",
        stacked(state="failed", cause="server: the card was lost while it computed", next="llmstack doctor"),
        "stack",
        Level.FAIL,
        "failed",
        "llmstack doctor",
    ),
    (
        "an engine that computes on the processor (fault 55)",
        stacked(
            served_findings=(
                Finding("served", Level.FAIL, "the engine computes on the processor", "why", "llmstack engine list"),
            )
        ),
        "served",
        Level.FAIL,
        "on the processor",
        "engine list",
    ),
    (
        "a CPU engine beside a card",
        without_cards(driver_cards=1, warnings=("RTX 3060 will not be used: the engine x is built without it",)),
        "gpu",
        Level.WARN,
        "will not be used",
        "engine list",
    ),
    ("driver and library do not match (fault 19)", gpu(library="575.0"), "gpu", Level.FAIL, "do not match", "reboot"),
    (
        "NVML says mismatch (fault 19)",
        without_cards(library=None, library_problem="Driver/library version mismatch"),
        "gpu",
        Level.FAIL,
        "do not match",
        "reboot",
    ),
    (
        "a card without a driver (fault 18)",
        without_cards(kernel_driver=None, library=None),
        "gpu",
        Level.FAIL,
        "none usable",
        "driver",
    ),
    (
        "a card that cannot be read",
        gpu(warnings=("GPU 0 cannot be read",)),
        "gpu",
        Level.WARN,
        "cannot be read",
        "nvidia-smi",
    ),
    ("no device node for CUDA", gpu(uvm_node=False), "gpu", Level.FAIL, "nvidia-uvm", "nvidia-modprobe"),
    (
        "VRAM held by others (fault 20)",
        gpu(holders=(GpuHolder(41, "blender", 3000, False), GpuHolder(7, "x", 1, True))),
        "vram",
        Level.WARN,
        "blender (pid 41, 3,000 MiB)",
        "kill 41",
    ),
    (
        "a cgroup limit below the plan (fault 22)",
        replace(SOUND, hardware=replace(SOUND.hardware, ram=Ram(32000, 3000, limit_mib=4000))),
        "memory",
        Level.FAIL,
        "limited to 4,000 MiB",
        "llmstack up",
    ),
    (
        "hardly any memory left",
        replace(SOUND, hardware=replace(SOUND.hardware, ram=Ram(32000, 200))),
        "memory",
        Level.WARN,
        "200 of 32,000",
        "ps aux",
    ),
    ("not a byte left", replace(SOUND, disks=(DiskFacts("/m", 0),)), "disk", Level.FAIL, "0 MiB free", "df -h /m"),
    ("a full disk", replace(SOUND, disks=(DiskFacts("/m", 100),)), "disk", Level.WARN, "100 MiB", "models remove"),
    (
        "no systemd (fault 25)",
        machine(kind="process", systemd_problem="no bus"),
        "systemd",
        Level.WARN,
        "no bus",
        "llmstack up",
    ),
    ("no linger (fault 26)", machine(linger=False), "linger", Level.WARN, "last logout", "loginctl enable-linger me"),
    (
        "no journald (fault 27)",
        machine(journal_answers=False),
        "journald",
        Level.WARN,
        "logs go to files",
        "systemd-journald",
    ),
    (
        "an unreadable journal (fault 27)",
        machine(journal_readable=False),
        "journald",
        Level.WARN,
        "cannot be read",
        "/var/log/journal",
    ),
    (
        "a unit edited by hand",
        machine(drifted={"llmstack-server.service": "kept"}),
        "units",
        Level.WARN,
        "edited by hand",
        "--force",
    ),
    (
        "a unit out of date",
        machine(drifted={"llmstack-server.service": "changed"}),
        "units",
        Level.WARN,
        "differs",
        "llmstack up",
    ),
    (
        "a unit path that is a symlink (fault 28)",
        machine(unit_problem="x is a symlink, so it is left alone"),
        "units",
        Level.FAIL,
        "symlink",
        "llmstack up",
    ),
    ("a clock far behind", replace(SOUND, clock=ClockFacts(90_000_000)), "clock", Level.FAIL, "behind", "timedatectl"),
    (
        "an OOM loop (fault 23)",
        stacked(state="failed", services=(OOM,), smaller_plan="llmstack up qwen --ctx 4096"),
        "stack",
        Level.FAIL,
        "out of memory",
        "--ctx 4096",
    ),
    (
        "an engine built for another processor",
        stacked(state="failed", services=(ILLEGAL,)),
        "stack",
        Level.FAIL,
        "SIGILL",
        "engine use embedded",
    ),
    ("a model file that is gone", stacked(model_exists=False), "model", Level.FAIL, "gone", "models list"),
    (
        "a port taken by another (fault 24)",
        replace(SOUND, ports=(PortFacts("proxy", "127.0.0.1", 5000, True, 99, "nginx", False),)),
        "ports",
        Level.FAIL,
        "nginx (pid 99)",
        "--port 5001",
    ),
    (
        "a token others can read (fault 32)",
        replace(SOUND, secrets=(SecretFacts("/s/token", True, 0o644),)),
        "secrets",
        Level.FAIL,
        "644",
        "rm '/s/token'",
    ),
    (
        "a token of somebody else (fault 32)",
        replace(SOUND, secrets=(SecretFacts("/s/token", True, 0o600, False),)),
        "secrets",
        Level.FAIL,
        "another user",
        "chown",
    ),
    (
        "a lost token",
        replace(SOUND, secrets=(SecretFacts("/s/token", False),)),
        "secrets",
        Level.FAIL,
        "missing",
        "llmstack up",
    ),
    (
        "a fetched catalog of another version",
        replace(SOUND, fetched_catalog_problem="unknown key models.new.colour"),
        "catalog",
        Level.WARN,
        "models.new.colour",
        "catalog back",
    ),
    (
        "a broken catalog",
        replace(SOUND, catalog_problem="models.toml:3: unknown key"),
        "catalog",
        Level.FAIL,
        "unknown key",
        "models.toml",
    ),
    (
        "connection refused",
        proxied(reachable=False, problem="connection refused"),
        "connection",
        Level.FAIL,
        "connection refused",
        "logs proxy",
    ),
    ("401 for our own token", proxied(token_status=401), "token", Level.FAIL, "401", "restart proxy"),
    ("an open proxy", proxied(open_status=200), "token", Level.FAIL, "without a token", "restart proxy"),
    (
        "model_not_found",
        proxied(routes={"claude-haiku-4-5-20251001": 404}),
        "routes",
        Level.FAIL,
        "model_not_found",
        "[[routes]]",
    ),
    (
        "silent sub-agents",
        proxied(tools="the answer held text"),
        "sub-agents",
        Level.FAIL,
        "without a tool call",
        "models list",
    ),
    ("no client", client(program=None), "claude", Level.WARN, "not on PATH", "npm install"),
    ("an old client", client(version="1.0.5"), "claude", Level.WARN, "older than 2.0.0", "npm install"),
    (
        "settings that fight ours",
        client(settings={"~/.claude/settings.json": ("ANTHROPIC_BASE_URL",)}),
        "claude settings",
        Level.FAIL,
        "ANTHROPIC_BASE_URL",
        "remove",
    ),
    (
        "settings that cannot be read",
        client(broken_settings=("~/.claude/settings.json",)),
        "claude settings",
        Level.WARN,
        "not valid JSON",
        "edit",
    ),
    (
        "a variable in the way",
        client(environment={"ANTHROPIC_API_KEY": "it is sent as well"}),
        "client environment",
        Level.WARN,
        "ANTHROPIC_API_KEY",
        "unset",
    ),
    (
        "another token in the shell",
        client(token_matches=False),
        "client environment",
        Level.FAIL,
        "not this stack's token",
        "llmstack env",
    ),
    (
        "a web proxy without NO_PROXY",
        client(proxy_variables=("https_proxy",), no_proxy_covers=False),
        "NO_PROXY",
        Level.FAIL,
        "https_proxy",
        "export NO_PROXY",
    ),
    ("no key for web searches", replace(SOUND, web="brave", web_key="no key"), "web", Level.WARN, "brave", "use brave"),
    ("a key for web searches that others can read", replace(SOUND, web="tavily", web_key="open"), "web", Level.WARN,
     "can be read by others", "web-search use tavily"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "check", "level", "finding", "remedy"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
def test_a_fault_is_found_and_comes_with_a_remedy(
    facts: DoctorFacts, check: str, level: Level, finding: str, remedy: str
) -> None:
    report = diagnose(facts)
    found = [f for f in report.findings if f.name == check and f.status is level]
    assert found, [f for f in report.findings if f.status is not Level.OK]
    assert any(finding in f.finding and remedy in f.remedy for f in found), found
    assert report.ok is (level is not Level.FAIL)


def test_every_warning_and_failure_names_a_command() -> None:
    for _, facts, *_ in FAULTS:
        for found in diagnose(facts).findings:
            assert found.status is Level.OK or found.remedy, found


def test_what_the_model_cannot_do_is_a_warning_and_no_failure() -> None:
    report = diagnose(stacked(warnings=("qwen is shown no tools",)))
    [finding] = [finding for finding in report.findings if finding.status is Level.WARN]
    assert (finding.name, finding.finding) == ("model", "qwen is shown no tools") and "models list" in finding.remedy
    assert report.ok


def test_who_searches_the_web_is_said() -> None:
    [finding] = [one for one in diagnose(replace(SOUND, web="searxng")).findings if one.name == "web"]
    assert finding.status is Level.OK and "searxng" in finding.finding
    assert not [one for one in diagnose(SOUND).findings if one.name == "web"]


def test_a_stack_that_was_taken_down_is_no_failure() -> None:
    facts = replace(stacked(state="stopped"), proxy=ProxyFacts(False, "connection refused"))
    assert diagnose(facts).ok


def test_nothing_deployed_is_no_failure() -> None:
    facts = replace(SOUND, stack=None, proxy=None, secrets=(SecretFacts("/s/token", False),))
    assert diagnose(facts).ok


def test_no_card_and_no_driver_is_an_ordinary_machine() -> None:
    facts = without_cards(kernel_driver=None, library=None, pci_cards=0)
    assert [f for f in diagnose(facts).findings if f.name == "gpu"] == [
        Finding("gpu", Level.OK, "no GPU: models run on the CPU")
    ]


def test_the_loaded_driver_and_the_cards_are_read_from_the_kernel(tmp_path: Path) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12\n"
    )
    for number, (vendor, kind) in enumerate((("0x10de", "0x030000"), ("0x10de", "0x040300"), ("0x1002", "0x030000"))):
        device = tmp_path / "sys/bus/pci/devices" / f"0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert kernel_driver(tmp_path) == "580.65.06"
    assert pci_cards(tmp_path) == 1
    assert (kernel_driver(tmp_path / "none"), pci_cards(tmp_path / "none")) == (None, 0)


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ({"env": {"ANTHROPIC_BASE_URL": "https://elsewhere"}}, ("ANTHROPIC_BASE_URL",)),
        ({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:5000/", "ANTHROPIC_MODEL": "qwen"}}, ()),
        (
            {"env": {"ANTHROPIC_API_KEY": "x", "FOO": "y"}, "apiKeyHelper": "/bin/key"},
            ("ANTHROPIC_API_KEY", "apiKeyHelper"),
        ),
        ({"apiKeyHelper": "llmstack token"}, ()),
        ({"env": None}, ()),
        ([], ()),
    ],
)
def test_settings_that_lead_elsewhere_are_told_from_our_own(data: object, keys: tuple[str, ...]) -> None:
    assert fighting_keys(data, "http://127.0.0.1:5000") == keys


@pytest.mark.parametrize(
    ("value", "covers"),
    [("", False), ("localhost", False), ("a.b, 127.0.0.1", True), ("*", True), ("127.0.0.0/8", True)],
)
def test_no_proxy_has_to_name_the_address_that_is_used(value: str, covers: bool) -> None:
    assert covers_loopback({"NO_PROXY": value}) is covers


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("token is abc123secret here", "abc123secret"),
        ("/home/jane/models", "jane"),
        ("key sk-ant-api03-AAAABBBBCCCC", "AAAABBBB"),
        ("hf_abcdefghijklmnop", "abcdefghijkl"),
        ("Authorization: Bearer eyJhbGciOi.xyz-123", "eyJhbGci"),
        ('"api_key": "very private"', "very private"),
        ("HF_TOKEN=private-value next", "private-value"),
        ("password = 'x y z'", "x y z"),
    ],
)
def test_a_bundle_holds_no_secret(text: str, gone: str) -> None:
    assert gone not in redact(text, {"abc123secret": "[removed]", "/home/jane": "~"})


@pytest.mark.parametrize(
    "text", ['"max_tokens": 4096,', "tokens_in=14", "prompt_tokens: 20000", '"token": null', "-lm mmap"]
)
def test_redaction_leaves_figures_alone(text: str) -> None:
    assert redact(text, {}) == text


def test_others_who_reach_it_by_tls_are_no_warning() -> None:
    reached = diagnose(replace(SOUND, reach="other machines reach the proxy at https://llm.lan", reached_by_tls=True))
    assert [finding.status for finding in reached.findings if finding.name == "reach"] == [Level.OK]


def test_what_keeps_others_out_and_an_update_are_findings_of_their_own() -> None:
    facts = replace(SOUND, barred=("the certificate c has expired",), outdated="the proxy was", outdated_remedy="again")
    names = {f.name: (f.status, f.remedy) for f in diagnose(facts).findings if f.name in ("access", "update")}
    assert names == {"access": (Level.WARN, ""), "update": (Level.WARN, "again")}


def test_only_the_model_s_own_warnings_are_called_the_model_s() -> None:
    status = StackStatus(
        StackState.READY, None, {}, "process", Warm("cold", 0, None), out_of_force=("a",), barred=("b",),
        outdated=(OutdatedService("proxy"),),
    )  # fmt: skip
    assert status.model_warnings == () and len(status.warnings) == 3


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.1.197 (Claude Code)", "2.1.332 was checked too; changed since, 2.1.283: its terminal starts in auto mode"),
        ("2.1.330 (Claude Code)", "changed since, 2.1.332"),
        ("2.4.0 (Claude Code)", "2.1.332 was checked; what a newer one sends"),
        ("2.1.332 (Claude Code)", "Claude Code 2.1.332 (Claude Code)"),
    ],
)
def test_a_client_is_compared_with_the_one_that_was_checked(version: str, words: str) -> None:
    (finding,) = claude_code(client(version=version))
    assert finding.status is Level.OK and words in finding.finding


def test_the_clients_that_doctor_calls_checked_are_those_that_the_tests_run() -> None:
    assert tuple(".".join(map(str, version)) for version in CHECKED) == VERSIONS
