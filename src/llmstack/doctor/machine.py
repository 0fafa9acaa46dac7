"""Checks of the machine: engine, GPU, memory, disk, systemd, journal, clock."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmstack.commands import command_line
from llmstack.doctor.facts import DoctorFacts, EngineFacts
from llmstack.findings import Finding, Level

LOW_DISK_MIB = 5 * 1024
FULL_DISK_MIB = 16
_LOST = re.compile(r"GPU is lost|fallen off the bus")  # nvmlErrorString(NVML_ERROR_GPU_IS_LOST); the kernel's words
_REBOOT = "sudo reboot   (or: sudo modprobe -r nvidia_uvm nvidia && sudo modprobe nvidia)"


def engine(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.engine
    if here.problem:
        yield Finding("engine", Level.FAIL, here.problem, "", here.remedy or command_line("engine", "install"))
        return
    build = f"build {here.build}" if here.build else f"{here.fork} {here.version}" if here.fork else "build not known"
    backends = ", ".join(here.backends) or "unknown backends"
    yield Finding("engine", Level.OK, f"{here.name}, {build} (needed: {here.minimum}), {backends}")
    yield from _advisories(here)
    for name, reason in (here.refused or {}).items():
        yield Finding(
            "engine",
            Level.WARN,
            f"{name} is here but not used: {reason}",
            "",
            f"{command_line('engine', 'install')}   builds one",
        )


def _advisories(here: EngineFacts) -> Iterator[Finding]:
    """A hole that something else covers is told, not warned of."""
    newer = f"{command_line('engine', 'install')}   takes a newer build"
    if here.fork or not here.build:
        whose = f"{here.fork}, a fork of llama.cpp with numbers of its own" if here.fork else "of no known build"
        yield Finding(
            "engine", Level.WARN, f"{here.name} is {whose}: which known holes are open in it cannot be told",
            "the proxy passes on only the fields of a request that llama-server documents",
            f"{command_line('engine', 'list')}   shows what else is here",
        )  # fmt: skip
    for advisory in here.advisories:
        until = f"fixed in b{advisory.fixed}" if advisory.fixed else "not fixed yet"
        remedy = newer if advisory.fixed else ""
        if advisory.protection:
            finding = f"{advisory.id} ({advisory.about}; {until}) is out of reach: {advisory.protection}"
            yield Finding("engine", Level.OK, finding, "", remedy)
        else:
            finding = f"{advisory.id} is open in {here.name}: {advisory.about} ({until})"
            yield Finding("engine", Level.WARN, finding, "end RPC, or take a newer build", remedy)


def gpu(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.gpu
    mismatch = here.kernel_driver and here.library and here.kernel_driver != here.library
    if mismatch or "mismatch" in here.library_problem.lower():
        yield Finding(
            "gpu", Level.FAIL,
            f"the NVIDIA kernel driver ({here.kernel_driver or 'unknown'}) and its library "
            f"({here.library or 'unknown'}) do not match",
            "an update replaced the library while the old driver is still loaded", _REBOOT,
        )  # fmt: skip
        return
    lost = [text for text in here.warnings or (here.library_problem,) if _LOST.search(text)]
    for warning in lost:
        yield Finding(
            "gpu", Level.FAIL, f"a card is lost: {warning}",
            "it answers its driver no more: power, heat, its slot, or a fault of the driver; only a restart of the "
            "machine brings it back", "sudo reboot   (why: sudo dmesg | grep -i -e xid -e 'fallen off')",
        )  # fmt: skip
    if lost and not facts.hardware.devices:
        return
    if here.pci_cards and not here.driver_cards and not facts.hardware.devices:
        yield Finding(
            "gpu", Level.FAIL, f"{here.pci_cards} NVIDIA card(s) in this machine, none usable",
            here.library_problem or "; ".join(here.warnings) or "no driver is loaded",
            "nvidia-smi   then install the driver of your distribution and reboot",
        )  # fmt: skip
        return
    for warning in here.warnings:
        is_engine_s = "will not be used" in warning
        if warning not in lost:
            remedy = command_line("engine", "list") if is_engine_s else "nvidia-smi"
            yield Finding("gpu", Level.WARN, warning, "", remedy)
    if not facts.hardware.devices:
        if not here.warnings:
            yield Finding("gpu", Level.OK, "no GPU: models run on the CPU")
        return
    for device in facts.hardware.devices:
        if any(warning.startswith(f"{device.name} is full") for warning in here.warnings):
            continue
        shared = ", shared with the processor" if device.unified else ""
        text = f"{device.name} ({device.id}): {device.free_mib:,} of {device.total_mib:,} MiB free{shared}"
        yield Finding("gpu", Level.OK, text)
    if here.kernel_driver and not here.uvm_node:
        yield Finding(
            "gpu", Level.FAIL, "/dev/nvidia-uvm is missing, so CUDA cannot start from a service",
            "a service must not gain rights (NoNewPrivileges), so it cannot create the device node itself",
            "sudo nvidia-modprobe -c 0 -u   (for good: sudo systemctl enable --now nvidia-persistenced)",
        )  # fmt: skip


def vram_holders(facts: DoctorFacts) -> Iterator[Finding]:
    others = [holder for holder in facts.gpu.holders if not holder.ours]
    if not others:
        if facts.hardware.devices:
            yield Finding("vram", Level.OK, "no other process holds GPU memory")
        return
    shown = ", ".join(f"{h.program} (pid {h.pid}{f', {h.mib:,} MiB' if h.mib is not None else ''})" for h in others)
    yield Finding(
        "vram", Level.WARN, f"GPU memory is held by others: {shown}",
        "plans count on free memory only", (f"kill {others[0].pid}   if it is no "
                                           f"longer needed, then {command_line('plan')}"),
    )  # fmt: skip


def memory(facts: DoctorFacts) -> Iterator[Finding]:
    ram = facts.hardware.ram
    whole = ram.total_mib if ram.limit_mib is None else min(ram.limit_mib, ram.total_mib)
    limited = f", limited to {ram.limit_mib:,} MiB by a control group" if ram.limit_mib is not None else ""
    text = f"{ram.available_mib:,} of {ram.total_mib:,} MiB available{limited}"
    needed = facts.stack.planned_host_mib if facts.stack else None
    if needed is not None and needed > whole:
        yield Finding(
            "memory", Level.FAIL, f"{text}; the deployed plan needs {needed:,} MiB of host memory",
            "the kernel will kill the server", f"{command_line('up', 'MODEL')}   plans again for what is there",
        )  # fmt: skip
    elif ram.available_mib < whole * 0.05:
        yield Finding("memory", Level.WARN, text, "nearly nothing is left", "ps aux --sort=-rss | head")
    else:
        yield Finding("memory", Level.OK, text)


def disk(facts: DoctorFacts) -> Iterator[Finding]:
    for place in facts.disks:
        text = f"{place.free_mib:,} MiB free at {place.path}"
        if place.free_mib < FULL_DISK_MIB:
            why = "nothing can be written there: no log line, no record, no saved state"
            yield Finding("disk", Level.FAIL, text, why, f"df -h {place.path}")
        elif place.free_mib < LOW_DISK_MIB:
            yield Finding(
                "disk",
                Level.WARN,
                text,
                "a model needs several GiB",
                f"{command_line('models', 'disk')}   lists the files; "
                f"{command_line('models', 'remove', 'NAME')}   deletes one",
            )
        else:
            yield Finding("disk", Level.OK, text)


def supervisor(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.supervisor
    if here.systemd_problem is not None:
        yield Finding(
            "systemd", Level.WARN,
            f"no systemd user manager ({here.systemd_problem}); llmstack's own supervisor is used",
            "the stack does not start by itself after a reboot", (f"{command_line('up')}   after "
                                                                 "each start of the machine"),
        )  # fmt: skip
        return
    sandbox = "full sandbox" if here.tier == "full" else "basic sandbox: user namespaces are restricted here"
    yield Finding("systemd", Level.OK, f"a user manager answers ({sandbox})")
    if here.linger:
        yield Finding("linger", Level.OK, "services start at boot and outlive the last logout")
    else:
        yield Finding(
            "linger", Level.WARN, "services stop at the last logout and do not start at boot",
            "lingering is off for this user", here.linger_command,
        )  # fmt: skip


def journal(facts: DoctorFacts) -> Iterator[Finding]:
    here = facts.supervisor
    if here.systemd_problem is not None:
        return
    if not here.journal_answers:
        yield Finding(
            "journald", Level.WARN, "journald does not answer; logs go to files",
            "stored lines then carry no time of their own", "sudo systemctl start systemd-journald",
        )  # fmt: skip
    elif not here.journal_readable:
        yield Finding(
            "journald", Level.WARN, "the journal cannot be read by this user; logs go to files",
            "it is kept in memory only, where journald does not split it by user",
            "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald",
        )  # fmt: skip
    else:
        yield Finding("journald", Level.OK, "takes and returns the services' logs")


def clock(facts: DoctorFacts) -> Iterator[Finding]:
    behind = facts.clock.behind_s
    if behind > 86_400:
        yield Finding(
            "clock", Level.FAIL, f"the clock is at least {behind / 86_400:.0f} days behind",
            "downloads fail on certificates that are not valid yet", "sudo timedatectl set-ntp true",
        )  # fmt: skip
    else:
        yield Finding("clock", Level.OK, "plausible")


CHECKS = (engine, gpu, vram_holders, memory, disk, supervisor, journal, clock)
