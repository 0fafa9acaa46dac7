"""The two services as systemd user units: `llmstack.supervisor.Supervisor` over `systemctl --user`.

What `apply` does, in order, and how a crash in between is met by the next `apply`:

| step                      | after a crash here the next run                                         |
| ------------------------- | ----------------------------------------------------------------------- |
| write each changed unit   | finds old or new text, never half of one; writes the rest               |
| daemon-reload             | sees NeedDaemonReload and reloads                                       |
| stop what changed         | sees a process older than its unit file and restarts it, or none at all |
| enable                    | enables again                                                           |
| start                     | sees a unit that is not active and starts it                            |
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmstack import paths
from llmstack.commands import command_line
from llmstack.errors import NotSo
from llmstack.supervisor import LogLine, Service, ServiceState, ServiceStatus
from llmstack.systemd import filelog, journal, manager, state
from llmstack.systemd.files import UnitFolder
from llmstack.units import ChangeKind, Tier, UnitDiff, UnitSettings, diff, render, unit_name
from llmstack.units.render import identifier, sandbox

_STOP_TIMEOUT_S = 90.0
_FOLDER_VARIABLES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


def suffix_of(home_variable: str | None) -> str:
    """Keeps the units of two homes apart: empty for the default home, `-` and eight hex digits else."""
    if not home_variable:
        return ""
    return "-" + hashlib.sha256(os.fsencode(_absolute(home_variable))).hexdigest()[:8]


def templates() -> dict[str, str]:
    folder = paths.resource("templates")
    return {p.name: p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.service.j2"))}


@dataclass(slots=True)
class SystemdSupervisor:
    """force: overwrite units that were edited by hand. notices: what `apply` left as it was, for the user; edited:
    these units."""

    home: paths.Home
    suffix: str
    force: bool = False
    settings: UnitSettings | None = None
    notices: list[str] = field(default_factory=list)
    edited: frozenset[str] = frozenset()
    kind: str = "systemd"

    @classmethod
    def of(cls, home: paths.Home, *, force: bool = False) -> SystemdSupervisor:
        return cls(home, suffix_of(os.environ.get("LLMSTACK_HOME")), force)

    def keeps_edited(self, service: str) -> bool:
        """Whether the last `apply` left this service's unit as the user had edited it."""
        return unit_name(service, self.suffix) in self.edited

    def desired(self, services: Sequence[Service]) -> dict[str, str]:
        """Unit name to text. Raises BadInput when a service cannot be written as a unit."""
        settings, texts = self._settings(), templates()
        return {unit_name(s.name, self.suffix): render(s, settings, texts) for s in services}

    def diff(self, services: Sequence[Service]) -> UnitDiff:
        """What `apply` would change. Raises NotSo for a symlink or a foreign unit in our place."""
        desired = self.desired(services)
        self._folder().refuse_foreign(desired)
        return diff(desired, self._folder().installed(), force=self.force)

    def apply(self, services: Sequence[Service]) -> tuple[str, ...]:
        changes = self.diff(services)
        edited = {change.unit for change in changes.of(ChangeKind.KEPT)}
        self.edited = frozenset(edited)
        self.notices = [
            f"{unit} was edited by hand and is kept as it is; {command_line('up', '--force')} replaces it"
            for unit in sorted(edited)
        ]
        desired = self.desired(services)
        return self._bring({unit: text for unit, text in desired.items() if unit not in edited}, edited, set(desired))

    def restore(self, units: Mapping[str, str], *, start: bool) -> tuple[str, ...]:
        """Puts back the units that `installed` returned earlier, edited ones too, and runs them if `start`."""
        if start:
            return self._bring(units, set(), set(units))
        self._install(units, set())
        self.stop()
        return ()

    def _install(self, desired: Mapping[str, str], edited: set[str]) -> None:
        folder = self._folder()
        folder.sweep()
        installed = folder.installed()
        self._remove([unit for unit in installed if unit not in desired and unit not in edited])
        for unit, text in sorted(desired.items()):
            if installed.get(unit) != text:
                folder.write(unit, text)
        manager.systemctl("daemon-reload")

    def _bring(self, desired: Mapping[str, str], edited: set[str], running: set[str]) -> tuple[str, ...]:
        """Installs these units, restarts of those in `running` what is out of date, and starts what is down."""
        before = self._folder().installed()
        self._install(desired, edited)
        units = sorted(running)
        shown = manager.show(units, state.PROPERTIES)
        for unit, properties in shown.items():
            self._check_loaded(unit, properties)
        stale = {u for u in units if (u in desired and before.get(u) != desired[u]) or self._outdated(u, shown[u])}
        down = {unit for unit in units if not _is_up(shown[unit])}
        # One that waits for its automatic restart is stopped too: a start would only join that restart, and the manager
        # counts it as one more death (service_start, service_enter_restart in systemd's service.c).
        idle = {unit for unit in units if shown[unit].get("ActiveState") in ("inactive", "failed")}
        busy = sorted((stale | down) - idle)
        if busy:
            manager.systemctl("stop", *busy, timeout_s=_STOP_TIMEOUT_S)
        if units:
            manager.systemctl("enable", "--quiet", *units)
        self._start(sorted(stale | down))
        return tuple(self._service(unit) for unit in sorted(stale | down))

    def restart(self, names: Sequence[str]) -> None:
        installed = self._folder().installed()
        units = [unit_name(name, self.suffix) for name in names]
        missing = [unit for unit in units if unit not in installed]
        if missing or not units:
            raise NotSo(f"{', '.join(missing) or 'no service'} is not installed", next=command_line("up"))
        manager.systemctl("daemon-reload")
        manager.systemctl("stop", *units, timeout_s=_STOP_TIMEOUT_S)
        manager.systemctl("enable", "--quiet", *units)
        self._start(units)

    def stop(self) -> None:
        """Also disables: what was taken down stays down over a reboot, until `up` or `restart`."""
        units = sorted(self._folder().installed())
        if not units:
            return
        manager.systemctl("stop", *units, timeout_s=_STOP_TIMEOUT_S)
        manager.systemctl("disable", "--quiet", *units)
        manager.systemctl("reset-failed", *units, check=False)

    def remove(self) -> None:
        folder = self._folder()
        self._remove(sorted(folder.installed()))
        folder.sweep()
        folder.forget()

    def status(self) -> dict[str, ServiceStatus]:
        names = self._names()
        shown = manager.show(tuple(names), state.PROPERTIES)
        now = time.clock_gettime(time.CLOCK_MONOTONIC)
        services = {}
        for unit, name in names.items():
            status = state.status(name, shown.get(unit, {}), now)
            if status.last_exit is None and status.restarts and self._settings_journal():
                status = _with_death(status, journal.last_death(unit), shown[unit])
            services[name] = status
        return services

    def logs(self, names: Sequence[str], *, last: int | None, since_s: float | None) -> list[LogLine]:
        if self._settings_journal():
            return journal.read(self._identifiers(names), last=last, since_s=since_s)
        return filelog.read(self.home.logs, names, last=last, since_s=since_s)

    def follow(self, names: Sequence[str]) -> Iterator[LogLine]:
        if self._settings_journal():
            return journal.follow(self._identifiers(names))
        return filelog.follow(self.home.logs, names)

    def drop_ins(self) -> tuple[str, ...]:
        """Paths of the user's own additions to our units."""
        folder = self._folder()
        return tuple(str(p) for unit in folder.installed() for p in folder.drop_ins(unit))

    def tier(self) -> Tier:
        return self._settings().tier

    def installed(self) -> dict[str, str]:
        """Our units by name. Raises NotSo for a symlink in our place."""
        return self._folder().installed()

    def _folder(self) -> UnitFolder:
        return UnitFolder(manager.unit_folder(), self.suffix, self.home.state / "unit-folders")

    def _names(self) -> dict[str, str]:
        return {unit: self._service(unit) for unit in self._folder().installed()}

    def _service(self, unit: str) -> str:
        return unit.removeprefix("llmstack-").removesuffix(f"{self.suffix}.service")

    def _identifiers(self, names: Sequence[str]) -> dict[str, str]:
        return {identifier(name, self.suffix): name for name in names}

    def _settings(self) -> UnitSettings:
        if self.settings is None:
            strict = sandbox(templates())
            hides = manager.hides(strict)
            self.settings = UnitSettings(
                suffix=self.suffix,
                tier=Tier.FULL if hides else manager.tier(strict),
                environment=_environment(),
                writable=tuple(str(folder) for folder in self.home.folders()),
                cache=str(self.home.cache),
                secrets=tuple(str(p) for p in (self.home.token, self.home.keys, self.home.captures)),
                person=str(Path.home()) if hides else None,
                log_folder=None if manager.use_journal() else str(self.home.logs),
            )
        return self.settings

    def _settings_journal(self) -> bool:
        return manager.use_journal() if self.settings is None else self.settings.log_folder is None

    def _outdated(self, unit: str, properties: Mapping[str, str]) -> bool:
        """The process is older than the unit or a drop-in: a crash came between writing and restarting."""
        started_us = int(properties.get("ExecMainStartTimestampMonotonic") or 0)
        if not started_us:
            return False
        age_s = time.clock_gettime(time.CLOCK_MONOTONIC) - started_us / 1e6
        return time.time() - age_s < self._folder().written_at(unit)

    def _check_loaded(self, unit: str, properties: Mapping[str, str]) -> None:
        path = str(self._folder().file(unit))
        if properties.get("LoadState") == "masked":
            raise NotSo(f"{unit} is masked", next=f"systemctl --user unmask {unit}")
        if properties.get("LoadState") != "loaded" or properties.get("FragmentPath") != path:
            raise NotSo(
                f"the user manager does not run the unit that was written to {path}",
                why=f"it reports {properties.get('LoadState')} from {properties.get('FragmentPath') or 'nowhere'}",
                next=f"systemctl --user status {unit}   (HOME and XDG_CONFIG_HOME must be the manager's own)",
            )

    def _start(self, units: Sequence[str]) -> None:
        if not units:
            return
        if self._settings().log_folder is not None:
            self.home.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            for unit in units:
                filelog.rotate(self.home.logs, self._service(unit))
        manager.systemctl("reset-failed", *units, check=False)
        manager.systemctl("start", "--no-block", *units)

    def _remove(self, units: Sequence[str]) -> None:
        if not units:
            return
        manager.systemctl("stop", *units, timeout_s=_STOP_TIMEOUT_S, check=False)
        manager.systemctl("disable", "--quiet", *units, check=False)
        manager.systemctl("reset-failed", *units, check=False)
        for unit in units:
            self._folder().delete(unit)
        manager.systemctl("daemon-reload")


def _is_up(properties: Mapping[str, str]) -> bool:
    return state.status("", properties, 0.0).state in (ServiceState.RUNNING, ServiceState.STARTING)


def _environment() -> dict[str, str]:
    """Only what decides where our folders are; a unit must not inherit a shell's accidents."""
    root = os.environ.get("LLMSTACK_HOME")
    if root:
        return {"LLMSTACK_HOME": str(_absolute(root))}
    return {name: os.environ[name] for name in _FOLDER_VARIABLES if os.environ.get(name)}


def _absolute(home_variable: str) -> Path:
    """As `paths.home` reads it."""
    return Path(home_variable).expanduser().absolute()


def _with_death(status: ServiceStatus, death: tuple[str, str] | None, properties: Mapping[str, str]) -> ServiceStatus:
    if death is None:
        return status
    codes = {"exited": "1", "killed": "2", "dumped": "3"}
    return dataclasses.replace(status, last_exit=state.exit_text(codes.get(death[0], ""), death[1], properties))
