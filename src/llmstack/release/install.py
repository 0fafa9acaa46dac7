"""From a release to an engine in use: chosen, fetched, checked, unpacked, tried, and only then named."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.engine.choose import use
from llmstack.engine.find import BuildRecord, BuildSource, Engine, EngineOrigin, engines_folder, of_binary, usable
from llmstack.engine.install import BuildStep, Installed, only_one, quiet, ready
from llmstack.engine.probe import backends_beside, list_devices
from llmstack.engine.smoke import smoke_test
from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.fetch.progress import Stage, TransferProgress
from llmstack.fetch.transfer import Remote, fetch
from llmstack.paths import Home
from llmstack.release import api, digests
from llmstack.release.assets import DEFAULT_TAG, LIBRARY, Asset, Version, build_of, of_file, version_text
from llmstack.release.choose import Host, backend_for, choose
from llmstack.release.unpack import unpack

OnProgress = Callable[[BuildStep], None]


@dataclass(frozen=True, slots=True)
class LocalArchive:
    """An archive that the user downloaded. sha256: what it must be."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class _Part:
    """One archive that is here and whole."""

    name: str
    path: Path
    sha256: str


def install_release(
    home: Home,
    host: Host,
    *,
    tag: str = DEFAULT_TAG,
    backend: str | None = None,
    on_progress: OnProgress = quiet,
    use_it: bool = True,
) -> Installed:
    """Installs the archive of a release that suits this machine, or takes the one that is here.

    Raises StackError: which archive, and why it cannot be had or used. The engine in use stays what it was then, and
    nothing half installed is left.
    """
    on_progress(BuildStep(f"asking for the release {tag}"))
    release = api.release_of(tag)
    archive = choose(release, host, backend or backend_for(host))
    name = _name(release.tag, archive.backend, archive.version)
    parts = [archive.asset, *([archive.companion] if archive.companion is not None else [])]
    sums = {asset.name: digests.expected(home, asset) for asset in parts}

    def bring(work: Path) -> list[_Part]:
        return [_fetched(work, replace(asset, sha256=sums[asset.name]), on_progress) for asset in parts]

    return _install(home, release.tag, archive.backend, name, bring, on_progress, use_it=use_it)


def install_archive(
    home: Home, given: Sequence[LocalArchive], *, on_progress: OnProgress = quiet, use_it: bool = True
) -> Installed:
    """Installs from files, for a machine without a network; the CUDA libraries' archive is one of them.

    Raises BadInput for files that are no release's, NotSo for bytes that are not what they should be.
    """
    known = [parts_of_name for one in given if (parts_of_name := of_file(one.path.name)) is not None]
    if len(known) != 1:
        raise BadInput(
            "one --archive must be a release's own file" if not known else "these are two builds, and one is installed",
            why="it is known by its name: llama-b12345-bin-ubuntu-x64.tar.gz; the CUDA libraries' starts with cudart-",
        )
    tag, backend, version = known[0]
    others = [one for one in given if of_file(one.path.name) is None]
    if [one for one in others if not one.path.name.startswith("cudart-")]:
        raise BadInput(f"{others[0].path.name} is no archive of a llama.cpp release")
    if backend == "cuda" and not others:
        raise BadInput(
            "the CUDA libraries are missing", why="they are in an archive of their own (cudart-llama-…)",
            next="give it too: --archive cudart-llama-….tar.gz --sha256 HEX",
        )  # fmt: skip

    def bring(_: Path) -> list[_Part]:
        ordered = sorted(given, key=lambda one: of_file(one.path.name) is None)
        return [_checked(one, on_progress) for one in ordered]

    return _install(home, tag, backend, _name(tag, backend, version), bring, on_progress, use_it=use_it)


def _name(tag: str, backend: str, version: Version) -> str:
    return f"{tag}-official-{backend}{version_text(version)}"


def _install(
    home: Home,
    tag: str,
    backend: str,
    name: str,
    bring: Callable[[Path], list[_Part]],
    on_progress: OnProgress,
    *,
    use_it: bool,
) -> Installed:
    folder = engines_folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = home.cache / "engine-archives"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    began = time.monotonic()
    with only_one(folder / ".lock", on_progress):
        engine = ready(home, folder / name)
        already = engine is not None
        if engine is None:
            engine = _made(home, tag, backend, name, bring(work), on_progress)
            shutil.rmtree(work, ignore_errors=True)
    if use_it:
        use(home, engine.name)
    return Installed(engine, already, time.monotonic() - began, None)


def _made(home: Home, tag: str, backend: str, name: str, parts: Sequence[_Part], on_progress: OnProgress) -> Engine:
    """Unpacks beside the others, tries it, and gives it its name."""
    folder, began = engines_folder(home), time.monotonic()
    staged, final = folder / f".{name}.new", folder / name
    shutil.rmtree(staged, ignore_errors=True)
    try:
        (staged / "bin").mkdir(parents=True)
        for number, part in enumerate(parts):
            on_progress(BuildStep(f"unpacking {part.name}"))
            unpack(part.path, staged / "bin", libraries_only=number > 0)
        sums = {part.name: part.sha256 for part in parts}
        record = BuildRecord(
            name=name,
            package=f"llama.cpp release {tag}",
            build=build_of(tag),
            backends=_backends(staged / "bin", backend),
            cmake_args=(),
            source_sha256=parts[0].sha256,
            built_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            seconds=round(time.monotonic() - began, 1),
            source=BuildSource.RELEASE,
            archives=sums,
        )
        on_progress(BuildStep("smoke test"))
        (staged / "tmp").mkdir()
        smoke_test(staged / "bin", record, home, staged / "tmp")
        if backend != "cpu":
            _check_devices(staged / "bin" / "llama-server", backend)
        shutil.rmtree(staged / "tmp")
        (staged / "engine.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        digests.remember(home, sums)
        shutil.rmtree(final, ignore_errors=True)
        staged.rename(final)
    except OSError as error:
        raise MissingPart(
            f"the engine cannot be written: {error.strerror or error}", why=f"in {folder}",
            next="free some space, or set LLMSTACK_HOME to a folder on a larger disk",
        ) from None  # fmt: skip
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return usable(of_binary(final / "bin" / "llama-server", home, EngineOrigin.RELEASE, record))


def _backends(folder: Path, backend: str) -> tuple[str, ...]:
    """What lies in it, and what it was chosen for: the smoke test refuses a release that lacks that."""
    return tuple(sorted({*backends_beside(folder / "llama-server"), "cpu", LIBRARY.get(backend, "cpu")}))


def _check_devices(binary: Path, backend: str) -> None:
    """A build whose driver is missing computes on the processor without a word."""
    listed = list_devices((str(binary),))
    if listed.devices:
        return
    raise MissingPart(
        f"the {backend} build runs here, and sees no card",
        why=listed.problem
        or "its --list-devices names none: the driver's library is missing, or this user may not open it",
        next=f"{command_line('doctor')}   looks at it; {command_line('engine', 'install', '--cpu')}   needs no card",
    )


def _fetched(work: Path, asset: Asset, on_progress: OnProgress) -> _Part:
    def tell(step: TransferProgress) -> None:
        done, total = (step.done >> 20, max(step.total >> 20, 1)) if step.stage is Stage.DOWNLOADING else (0, 0)
        on_progress(BuildStep(f"{step.stage.value} {asset.name}", done, total, "MiB"))

    allowed = api.HOSTS if api.address() == api.ADDRESS else ()
    remote = Remote(asset.url, asset.name, asset.size, asset.sha256, allow_hosts=allowed)
    try:
        done = fetch(remote, work / asset.name, on_progress=tell)
    except NotSo as error:
        error.next = "the same command again gets it anew; if it stays so, do not use that source"
        raise
    if done.already and _sha256(done.path) != asset.sha256:  # left from before, and not what is asked for now
        done.path.unlink()
        return _fetched(work, asset, on_progress)
    return _Part(asset.name, done.path, asset.sha256)


def _checked(given: LocalArchive, on_progress: OnProgress) -> _Part:
    on_progress(BuildStep(f"checking {given.path.name}"))
    digest = _sha256(given.path)
    if digest != given.sha256.lower():
        raise NotSo(
            f"{given.path.name} is not what it should be: its SHA-256 is {digest}",
            why=f"--sha256 says {given.sha256.lower()}",
            next="download it again, or check the sum on the release's page",
        )  # fmt: skip
    return _Part(given.path.name, given.path, digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def newest(known: Sequence[Engine]) -> tuple[str, bool]:
    """The tag of the stable release, and whether no build here is as new. Raises StackError as `api.release_of`."""
    release = api.release_of(DEFAULT_TAG)
    return release.tag, all((engine.build or 0) < release.build for engine in known if not engine.refused)
