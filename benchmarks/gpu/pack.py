"""What a bare machine without a network lacks: the engine's source, and the wheels that the kit imports."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu.results import Row
from llmstack.engine.pip_build import BuildLog, PipBuild, quiet
from llmstack.engine.source_package import PACKAGE, BuildSpec
from llmstack.engine.toolchain import Toolchain
from llmstack.errors import NotSo

MOST_MIB = 60
LOCK = Path(__file__).parents[2] / "lock" / "runtime.txt"
# The embedded engine, because the kit builds its own; and what only `llmstack mcp` needs.
LEFT_OUT = (
    "xllamacpp", "mcp", "mcp-types", "cryptography", "cffi", "pycparser", "pyjwt", "jsonschema",
    "jsonschema-specifications", "referencing", "rpds-py", "sse-starlette", "python-multipart",
)  # fmt: skip


def pack(out: Path, python: str, say: Callable[[str], None]) -> Row:
    """Fills DIR/pack. python: of the bare machine, such as 3.12. Raises NotSo without a network, or above MOST_MIB."""
    folder = out / "pack"
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    requirement = folder / "source.txt"
    requirement.write_text(f"{BuildSpec().package.requirement}\n")
    with (folder / "log").open("w") as stream, tempfile.TemporaryDirectory(prefix="llmstack-pack-") as work:
        (Path(work) / "tmp").mkdir()
        log = BuildLog(stream, folder / "log", quiet)
        chain = Toolchain("", 1, None)
        tools = PipBuild(Path(work), out / "tools", BuildSpec(), chain, log)  # a pip that can ask a source for its name
        say("pip and what the source's own setup asks for")
        tools.prepare()
        say("the engine's source")
        source = ("--no-binary", PACKAGE, "--no-build-isolation", "--require-hashes", "-r", str(requirement))
        _download(tools, *source, "-d", str(folder))
        requirements = folder / "requirements.txt"
        requirements.write_text(_without(LOCK.read_text(), LEFT_OUT))
        say(f"wheels for Python {python}")
        wanted = ("--only-binary", ":all:", "--python-version", python, "--require-hashes", "-r", str(requirements))
        _download(tools, *wanted, "-d", str(wheels))
    (folder / "log").unlink()
    files = [file for file in folder.rglob("*") if file.is_file()]
    mib = sum(file.stat().st_size for file in files) / (1 << 20)
    if mib > MOST_MIB:
        raise NotSo(f"the pack is {mib:.0f} MiB, {MOST_MIB} may be brought along")
    return {"mib": round(mib, 1), "files": sorted(str(file.relative_to(out)) for file in files), "python": python}


def _without(lock: str, names: tuple[str, ...]) -> str:
    """The lock file without some packages and their hashes."""
    kept: list[str] = []
    dropping = False
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            dropping = line.split("==")[0].split("[")[0].strip().lower() in names
        if not dropping:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _download(tools: PipBuild, *arguments: str) -> None:
    command = [tools.python, "-m", "pip", "--no-input", "download", "--no-deps", *arguments]
    done = subprocess.run(
        command, env=tools.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise NotSo("pip could not bring it", why=done.stdout[-1500:])
