"""Asks a llama-server binary what it is, once: `--version`, `--help`, and the libraries beside it.

The answers are kept in the cache folder under the binary's path, size and modification time.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmstack.engine.environment import device_environment
from llmstack.engine.flags import Flags, parse_help
from llmstack.hardware import Device
from llmstack.paths import write_cached

PROBE_SECONDS = 30.0  # a CUDA build initialises its devices even for --version
_VERSION = re.compile(r"^version:\s*(?P<version>\S+)(?:\s*\((?P<inside>[^)]*)\))?", re.M)
_DEVICE = re.compile(r"^\s+(?P<name>\S+): (?P<text>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)\s*$", re.M)
_SHARED = re.compile(r"^ggml_vulkan: (?P<number>\d+) = .*\| uma: 1 ", re.M)
_PACKAGE_VERSION = re.compile(r"^__version__\s*=.*'(?P<build>\d+)\.\d+\.\d+'", re.M)


class Probe(msgspec.Struct, frozen=True):
    """What a binary said. failure: why it could not be asked (a missing library, a time-out), else empty.

    libraries: a digest of those beside it, sizes and times included: a new backend makes another engine of it.
    """

    path: str
    size: int
    mtime_ns: int
    version: str = ""
    build: int | None = None
    help: str = ""
    backends: tuple[str, ...] = ()
    failure: str = ""
    libraries: str = ""

    def flags(self) -> Flags:
        return parse_help(self.help)


def probe(binary: Path, cache: Path) -> Probe:
    """The binary's answers, from the cache where path, size and time still match."""
    status = binary.stat()
    entry = cache / "engines" / f"{_key(binary)}.json"
    try:
        cached = msgspec.json.decode(entry.read_bytes(), type=Probe)
        same = (cached.path, cached.size, cached.mtime_ns) == (str(binary), status.st_size, status.st_mtime_ns)
        if same and cached.libraries == libraries_beside(binary):
            return cached
    except (OSError, msgspec.DecodeError):
        pass
    answers = msgspec.structs.replace(_ask(binary, status), libraries=libraries_beside(binary))
    if not answers.failure:
        write_cached(entry, msgspec.json.encode(answers))
    return answers


def parse_version(text: str) -> tuple[str, int | None]:
    """`version: 6325 (4cb0c6a)` and `version: 0.6.0 (build 11434, commit 4cb0c6a)`; build 0 means unknown."""
    match = _VERSION.search(text)
    if match is None:
        return "", None
    version, inside = match["version"], match["inside"] or ""
    named = re.search(r"build (\d+)", inside)
    number = int(named[1]) if named else int(version) if version.isdigit() else 0
    return version, number or None


def parse_devices(text: str) -> tuple[Device, ...]:
    """The lines of `--list-devices`: `  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11890 MiB free)`.

    A device's id is a backend and a number (ggml's registries: `CUDA0`, `Vulkan1`, `ROCm0`, `MTL0`, `SYCL0`). Vulkan
    tells in a line of its own, `ggml_vulkan: 0 = … | uma: 1 | …`, which of its devices have no memory of their own.
    """
    shared = {f"Vulkan{match['number']}" for match in _SHARED.finditer(text)}
    devices = []
    for match in _DEVICE.finditer(text):
        backend = re.sub(r"[\d\[:.].*$", "", match["name"])
        backend = {"MTL": "Metal", "HIP": "ROCm", "GPUOpenCL": "OpenCL"}.get(backend, backend)
        devices.append(
            Device(
                match["text"],
                backend,
                int(match["total"]),
                int(match["free"]),
                id=match["name"],
                unified=match["name"] in shared,
            )
        )
    return tuple(devices)


class DeviceList(NamedTuple):
    """problem: why the engine did not list its devices, empty when it did."""

    devices: tuple[Device, ...] = ()
    problem: str = ""


def list_devices(command: Sequence[str]) -> DeviceList:
    """What the engine itself can compute on now, with free memory, in the environment that its service will have."""
    status, text = run([*command, "--list-devices"])
    if status == 0:
        return DeviceList(parse_devices(text))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return DeviceList(problem=lines[-1] if lines else f"exit status {status}")


def run(argv: Sequence[str]) -> tuple[int, str]:
    """Exit status and both outputs; status -1 with the reason where it could not be run or took too long."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROBE_SECONDS,
            env={**os.environ, **device_environment(os.environ), "LC_ALL": "C", "COLUMNS": "120"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {PROBE_SECONDS:.0f} s"
    except OSError as error:
        return -1, error.strerror or str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def backends_beside(binary: Path) -> tuple[str, ...]:
    """The ggml backends whose libraries lie beside the binary (libggml-NAME.so), CPU variants as one."""
    names = set()
    for library in binary.resolve().parent.glob("libggml-*"):
        name = library.name.removeprefix("libggml-").split(".")[0].split("-")[0]
        if name != "base":
            names.add(name)
    return tuple(sorted(names))


def libraries_beside(binary: Path) -> str:
    """A digest of the ggml libraries in the binary's folder: names, sizes and times."""
    import hashlib

    digest = hashlib.sha256()
    for library in sorted(binary.resolve().parent.glob("libggml*")):
        with contextlib.suppress(OSError):
            status = library.stat()
            digest.update(f"{library.name}/{status.st_size}/{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _ask(binary: Path, status: os.stat_result) -> Probe:
    code, text = run([str(binary), "--version"])
    if code != 0:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Probe(
            str(binary), status.st_size, status.st_mtime_ns, failure=lines[-1] if lines else f"exit status {code}"
        )
    version, build = parse_version(text)
    if build is None:
        build = _build_of_package(binary)
    code, help_text = run([str(binary), "--help"])
    failure = "" if code == 0 and parse_help(help_text).options else "its --help lists no flags"
    return Probe(
        str(binary),
        status.st_size,
        status.st_mtime_ns,
        version=version,
        build=build,
        help=help_text if not failure else "",
        backends=backends_beside(binary),
        failure=failure,
    )


def _build_of_package(binary: Path) -> int | None:
    """A build from a source package has no git history and calls itself build 0; the package beside it knows."""
    for folder in (binary.parent.parent, binary.resolve().parent.parent):
        try:
            match = _PACKAGE_VERSION.search((folder / "_version.py").read_text("utf-8", "replace")[:10_000])
        except OSError:
            continue
        if match:
            return int(match["build"])
    return None


def _key(binary: Path) -> str:
    import hashlib

    return hashlib.sha256(os.fsencode(binary)).hexdigest()[:24]
