"""Where everything lives: four folders of one user, or all below LLMSTACK_HOME.

Two homes share nothing. Secrets are files of mode 0600 below `state`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from llmstack import commands
from llmstack.catalog.overlay import CatalogTexts
from llmstack.errors import BadInput

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Home:
    config: Path
    state: Path
    data: Path
    cache: Path

    @property
    def catalog(self) -> Path:
        """The user's overlay of the shipped models.toml."""
        return self.config / "models.toml"

    @property
    def token(self) -> Path:
        """The proxy's token (0600): what clients send."""
        return self.state / "token"

    @property
    def keys(self) -> Path:
        """Keys of upstreams, a file each (0600)."""
        return self.config / "keys"

    @property
    def web(self) -> Path:
        """Who searches the web, and whether pages are fetched (JSON): `web_settings`."""
        return self.config / "web.json"

    @property
    def client_keys(self) -> Path:
        """The keys of other people, as hashes (0600): `access.book`."""
        return self.config / "client-keys.json"

    @property
    def key_use(self) -> Path:
        """What each key used today (JSON): `access.use`."""
        return self.state / "key-use.json"

    @property
    def server_key(self) -> Path:
        """llama-server's own key (0600): only the proxy knows it."""
        return self.state / "server.key"

    @property
    def stack(self) -> Path:
        """What is deployed now (JSON): `stackfile`."""
        return self.state / "stack.json"

    @property
    def proxy_alone(self) -> Path:
        """There while the proxy is deployed without a server (JSON): `stackfile.ProxyAlone`."""
        return self.state / "proxy.json"

    @property
    def transaction(self) -> Path:
        """There while an `up` is at work: `deploy.transaction`. The warm start waits for its end."""
        return self.state / "transaction.json"

    @property
    def deploy_lock(self) -> Path:
        """Held by the one command that changes the stack: `deploy.apply`."""
        return self.state / "deploy.lock"

    @property
    def served(self) -> Path:
        """What the server's last start came to (JSON): `deploy.observe`."""
        return self.state / "served.json"

    @property
    def models(self) -> Path:
        return self.data / "models"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def slots(self) -> Path:
        """llama-server's --slot-save-path."""
        return self.cache / "slots"

    @property
    def bench_history(self) -> Path:
        return self.state / "bench.jsonl"

    @property
    def captures(self) -> Path:
        """Whole exchanges, where the proxy was started with --debug."""
        return self.state / "debug"

    @property
    def calibration(self) -> Path:
        """Rates measured on this machine: `detect.calibration`."""
        return self.state / "calibration.json"

    @property
    def tuned(self) -> Path:
        """Flags that `tune` found, with their evidence: `deploy.tuned`."""
        return self.state / "tuned.json"

    def folders(self) -> tuple[Path, ...]:
        return (self.config, self.state, self.data, self.cache)

    def make(self) -> Home:
        """Creates the folders, readable by their owner only."""
        for folder in (*self.folders(), self.models, self.logs, self.slots):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self


def home() -> Home:
    """The folders of this user, or of LLMSTACK_HOME when it is set."""
    base = chosen_root()
    if base:
        return Home(base / "config", base / "state", base / "data", base / "cache")
    import platformdirs

    dirs = platformdirs.PlatformDirs("llmstack", appauthor=False)
    return Home(dirs.user_config_path, dirs.user_state_path, dirs.user_data_path, dirs.user_cache_path)


def chosen_root() -> Path | None:
    """LLMSTACK_HOME from any folder; None when it is not set."""
    root = os.environ.get("LLMSTACK_HOME")
    return Path(root).expanduser().absolute() if root else None


def resource(name: str) -> Path:
    """A file or folder shipped with the package: beside it in a wheel, at the top level in a checkout."""
    for base in (PACKAGE, PACKAGE.parent.parent):
        if (base / name).exists():
            return base / name
    raise FileNotFoundError(f"{name} is missing from this installation of llmstack")


def catalog_texts(home: Home, *, with_user: bool = True) -> CatalogTexts:
    """models.toml as shipped and the user's own, read and not looked into. Raises BadInput."""
    shipped = resource("models.toml").read_bytes()
    try:
        user = home.catalog.read_bytes() if with_user else None
    except FileNotFoundError:
        user = None
    except OSError as error:
        raise BadInput(f"{home.catalog} cannot be read", why=str(error)) from error
    return CatalogTexts(shipped, user, str(home.catalog))


def own_command() -> tuple[str, ...]:
    """What runs this program from any folder: the file that was called, by its absolute path; else this interpreter.

    For what outlives this shell: functions, settings. `-P`: `python -m` would import out of the folder it runs in.
    """
    words = shlex.split(commands.program()) if commands.is_called_by_name() else []
    file = shutil.which(words[0]) if len(words) == 1 else None
    return (str(Path(file).absolute()),) if file else (sys.executable, "-P", "-m", "llmstack")


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner may read, whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, data, 0o600)


def write_cached(path: Path, data: bytes) -> None:
    """`write_private` of what only saves time: a full or read-only disk costs that, nothing else."""
    with contextlib.suppress(OSError):
        write_private(path, data)


def write_atomic(path: Path, data: bytes, mode: int) -> None:
    """Puts a file in place whole or not at all, on disk before it gets its name. mode: whatever the umask says.

    Until then nobody but its owner may read it. Raises OSError with the file as it was.
    """
    _sweep_unfinished(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails for want of space names no file
        raise


def _sweep_unfinished(path: Path) -> None:
    """What a command that was killed in the middle of this left of it."""
    for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*"):
        pid = unfinished.suffix.removeprefix(".")
        if unfinished.stem == f".{path.name}" and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                unfinished.unlink()
