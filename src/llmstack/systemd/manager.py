"""Calls to the user's systemd manager: `systemctl --user` and its kin, nothing else.

Two facts decide everything above: does a manager answer (`available`), and what may it do (`tier`, `linger`,
`journal_readable`).
"""

from __future__ import annotations

import getpass
import grp
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from llmstack.commands import command_line
from llmstack.errors import MissingPart, NotSo
from llmstack.units import Tier

MINIMUM_VERSION = 244  # the `:` prefix of ExecStart=
JOURNAL_SOCKET = Path("/run/systemd/journal/stdout")
PERSISTENT_JOURNAL = Path("/var/log/journal")
LINGER_FOLDER = Path("/var/lib/systemd/linger")
JOURNAL_GROUPS = ("systemd-journal", "adm", "wheel")
_PROBE_TIMEOUT_S = 10.0


def environment() -> dict[str, str]:
    """Ours, with XDG_RUNTIME_DIR filled in where `su` or cron left it out."""
    variables = dict(os.environ)
    if not variables.get("XDG_RUNTIME_DIR"):
        usual = Path(f"/run/user/{os.getuid()}")
        if usual.is_dir():
            variables["XDG_RUNTIME_DIR"] = str(usual)
    variables["SYSTEMD_PAGER"] = ""
    variables["SYSTEMD_COLORS"] = "0"
    variables["LC_ALL"] = "C.UTF-8"
    return variables


def systemctl(*arguments: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `systemctl --user`. Raises MissingPart when it does not answer, NotSo when it refuses."""
    try:
        done = subprocess.run(
            ["systemctl", "--user", *arguments],
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", errors="surrogateescape", timeout=timeout_s, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise MissingPart(
            "systemd is not installed here", next=f"LLMSTACK_SUPERVISOR=process {command_line('up')}"
        ) from None
    except subprocess.TimeoutExpired:
        raise MissingPart(
            f"the systemd user manager did not answer `{' '.join(arguments[:2])}` within {timeout_s:g} s",
            next=f"systemctl --user status   then  {command_line('doctor')}",
        ) from None
    if check and done.returncode != 0:
        if "Failed to connect to bus" in done.stderr:
            raise MissingPart(
                "the systemd user manager that runs this stack does not answer",
                why=done.stderr.strip(),
                next=f"log in as this user (not through su or sudo) and try again; then {command_line('doctor')}",
            )
        raise NotSo(
            f"systemctl --user {' '.join(arguments)} failed",
            why=done.stderr.strip() or f"exit status {done.returncode}",
            next=command_line("doctor"),
        )
    return done


def show(units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
    """Properties by unit. Raises as `systemctl` does."""
    if not units:
        return {}
    done = systemctl("show", "--property", ",".join(("Id", *properties)), "--", *units)
    by_unit: dict[str, dict[str, str]] = {}
    for block, unit in zip(done.stdout.strip("\n").split("\n\n"), units, strict=False):
        pairs = (line.partition("=") for line in block.split("\n"))
        by_unit[unit] = {key: value for key, equals, value in pairs if equals}
    return by_unit


def unit_folder() -> Path:
    """Where this user's own units live."""
    config = os.environ.get("XDG_CONFIG_HOME")
    base = Path(config) if config else Path.home() / ".config"
    return base / "systemd" / "user"


def version() -> int | None:
    """systemd's version number, None when it is not installed."""
    if shutil.which("systemctl") is None:
        return None
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def unavailable_because() -> str | None:
    """Why no user manager can be used, in half a sentence; None when one answers."""
    release = version()
    if release is None:
        return "systemd is not installed"
    if release < MINIMUM_VERSION:
        return f"systemd {release} is older than {MINIMUM_VERSION}"
    try:
        done = systemctl("is-system-running", timeout_s=_PROBE_TIMEOUT_S, check=False)
    except MissingPart as error:
        return error.what
    # `degraded` and `starting` exit with 1 and still are a manager that answers; no bus prints nothing.
    if done.stdout.strip() in ("running", "degraded", "starting", "initializing", "maintenance"):
        return None
    return (done.stderr.strip().split("\n")[0] or "the user manager is offline").rstrip(".")


def available() -> bool:
    """A user manager answers and is new enough."""
    return unavailable_because() is None


def tier(sandbox: Sequence[str]) -> Tier:
    """FULL where a user unit may have what that tier asks for: found out by running `true` in it.

    sandbox: the `Name=value` settings that only the FULL tier has. They imply PrivateUsers= in a user unit,
    which fails where user namespaces are restricted.
    """
    settings = [part for setting in ("PrivateUsers=yes", *sandbox) for part in ("-p", setting)]
    command = ["systemd-run", "--user", "--wait", "--quiet", "--collect", *settings, "true"]
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PROBE_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return Tier.BASIC
    return Tier.FULL if done.returncode == 0 else Tier.BASIC


def hides(sandbox: Sequence[str]) -> bool:
    """Whether a unit of the FULL tier may hide files: systemd needs nodes below /run for it, which containers lack."""
    return tier((*sandbox, "InaccessiblePaths=/etc/passwd")) is Tier.FULL


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def linger(folder: Path = LINGER_FOLDER) -> bool:
    """Whether this user's services start at boot and outlive the last logout."""
    return (folder / user_name()).exists()


def linger_command() -> str:
    return f"loginctl enable-linger {user_name()}"


def journal_answers(path: Path = JOURNAL_SOCKET) -> bool:
    """Whether a journald takes the output of services."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def journal_readable() -> bool:
    """Whether we could read back what our services log.

    journald splits files by user only on disk (journald.conf(5), SplitMode=): with a volatile journal an
    ordinary user sees nothing.
    """
    if os.geteuid() == 0:
        return True
    return PERSISTENT_JOURNAL.is_dir() or bool(_group_names() & set(JOURNAL_GROUPS))


def use_journal() -> bool:
    return shutil.which("journalctl") is not None and journal_answers() and journal_readable()


def _group_names() -> set[str]:
    names = set()
    for gid in os.getgroups():
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
