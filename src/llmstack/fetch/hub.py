"""What the Hugging Face hub says about a file: its size, its SHA-256, its commit. Through huggingface_hub.

HF_ENDPOINT (a mirror), HF_TOKEN and `hf auth login`, HF_HUB_OFFLINE and proxies are its settings, and count here.
huggingface_hub is asked for names and facts; the bytes come through `transfer`, which checks the SHA-256 of the
whole (the library compares sizes) and judges every redirect.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmstack.catalog.models import family_of, is_file, quant_of, shards, stem_of
from llmstack.commands import command_line, repeated
from llmstack.errors import MissingPart, NotSo, StackError
from llmstack.gguf import printable
from llmstack.sizes import GIB

if TYPE_CHECKING:
    from llmstack.fetch.transfer import Remote

PREFERRED = ("UD-Q4_K_XL", "Q4_K_M", "MXFP4", "Q4_K_XL", "IQ4_XS", "Q4_K_S", "Q5_K_M", "Q4_0", "Q8_0")
"""Which size is meant when a repository is named without one: the common ones of about 4.5 bits first."""


class GoneFile(NotSo):
    """The repository is there, and has no such file or commit."""


def endpoint() -> str:
    """The hub's address, or its mirror's."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


_WITH_FILE = "with the file here already: LLMSTACK_OFFLINE=1 "


def offline() -> bool:
    """Whether the settings ask for no network at all."""
    yes = {"1", "true", "yes", "on"}
    return any(
        os.environ.get(name, "").lower() in yes
        for name in ("LLMSTACK_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def describe(repo: str, file: str, revision: str = "main", *, allow_hosts: Sequence[str] = ()) -> Remote:
    """Asks the hub about one file. The address names the commit, so all shards and all resumes are one version.

    Raises NotSo (no such repository or file), MissingPart (no access, no network).
    """
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    from llmstack.fetch.transfer import Remote  # what downloads; a plan asks this module only for its settings

    base = endpoint()
    token = get_token()
    try:
        metadata = get_hf_file_metadata(
            hf_hub_url(repo, file, revision=revision, endpoint=base), token=token, endpoint=base, timeout=20.0
        )
    except Exception as error:
        raise explain(error, repo, file, revision) from None
    commit = (
        metadata.commit_hash
        if metadata.commit_hash and re.fullmatch(r"[0-9a-f]{40}", metadata.commit_hash)
        else revision
    )
    etag = (metadata.etag or "").strip('"')
    return Remote(
        url=hf_hub_url(repo, file, revision=commit, endpoint=base),
        name=file.rpartition("/")[2],
        size=metadata.size or 0,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        hub=True,
        endpoint=base,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        allow_hosts=tuple(allow_hosts),
    )


class HubFile(NamedTuple):
    """size: bytes. sha256: empty where the hub gives none."""

    size: int
    sha256: str


def listing(repo: str, revision: str = "main") -> tuple[str, dict[str, HubFile]]:
    """The commit that a revision is now, and all .gguf files of the repository then, by name.

    Names that could leave a folder are dropped. Raises NotSo and MissingPart as `describe`.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint()).model_info(repo, revision=revision, files_metadata=True, timeout=20.0)
    except Exception as error:
        raise explain(error, repo, "", revision) from None
    return info.sha or revision, {
        item.rfilename: HubFile(item.size or 0, item.lfs.sha256 if item.lfs is not None else "")
        for item in info.siblings or ()
        if is_file(item.rfilename)
    }


def gguf_files(repo: str, revision: str = "main") -> dict[str, int]:
    """All .gguf files of a repository with their sizes in bytes. Raises as `listing`."""
    return {name: file.size for name, file in listing(repo, revision)[1].items()}


def license_of(repo: str, revision: str = "main") -> str:
    """The licence that a repository names; empty where it names none, or cannot be asked."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint()).model_info(repo, revision=revision, timeout=20.0)
    except Exception:
        return ""
    card = info.card_data
    tagged = (tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:"))
    named = getattr(card, "license_name", None) or getattr(card, "license", None) or next(tagged, "")
    return printable(named, 60) if isinstance(named, str) else ""


def choose(repo: str, files: Mapping[str, int], quant: str) -> tuple[str, ...]:
    """The files of one size out of a repository, first shard first. files: names, and sizes in bytes.

    Raises NotSo that lists what there is: when nothing is of this size, and when several models could be meant.
    """
    models = [name for name in files if not companion(name)]
    families = {family_of(name) for name in models if not quant or quant_of(name).lower() == quant.lower()}
    if len(families) > 1:
        raise NotSo(
            f"{repo} holds {len(families)} models{f' of size {quant}' if quant else ''}, and none is guessed",
            why=f"it has {printable(_listed(files), 4000)}",
            next=f"{command_line('plan', f'hf:{repo}/FILE.gguf')}   with one of these names",
        )
    sizes: dict[str, list[str]] = {}
    for name in sorted(models):
        sizes.setdefault(quant_of(name), []).append(name)
    quants = [quant] if quant else [*PREFERRED, *sizes]
    for name in quants:
        for key, names in sizes.items():
            if key.lower() == name.lower():
                return shards(names[0])
    listed = ", ".join(sorted(key for key in sizes if key)) or "no .gguf file"
    raise NotSo(
        f"{repo} has no {quant or '.gguf file'}",
        why=f"it has {printable(listed, 1000)}",
        next=f"{command_line('models', 'pull', f'hf:{repo}:QUANT')}, or hf:{repo}/FILE.gguf",
    )


def projector(files: Sequence[str]) -> str:
    """The image encoder that belongs to a repository's models (mmproj), by `precision`; empty without one."""
    projectors = sorted((name for name in files if is_projector(name)), key=lambda name: (precision(name), name))
    return projectors[0] if projectors else ""


def _listed(files: Mapping[str, int]) -> str:
    """Every model's file with its size, shards as one; behind them what is no model by itself."""
    totals: dict[str, int] = {}
    for name, size in sorted(files.items()):
        first = shards(name)[0]
        totals[first] = totals.get(first, 0) + size
    return ", ".join(
        f"{name} ({size / GIB:.2f} GiB)" + (f", {companion(name)}" if companion(name) else "")
        for name, size in sorted(totals.items(), key=lambda item: (bool(companion(item[0])), item[0]))
    )


# Files that lie beside models, by the names that converters and publishers give them.
_COMPANIONS = (
    (re.compile(r"(?:^|[-_.])mmproj|projector", re.I), "a projector"),
    (re.compile(r"(?:^|[-_.])i-?matrix(?:[-_.]|$)", re.I), "an imatrix"),
    (re.compile(r"^mtp[-_.]|[-_.]mtp-only|(?:^|[-_.])(?:eagle-?3|dflash|dspark)(?:[-_.]|$)", re.I), "a draft"),
    (re.compile(r"(?:^|[-_.])lora(?:[-_.]|$)|(?:^|[-_.])adapter(?:[-_.]|$)", re.I), "an adapter"),
    (re.compile(r"(?:^|[-_.])(?:control-?vector|vocab|vocoder)(?:[-_.]|$)", re.I), "no model"),
)


def companion(name: str) -> str:
    """What a file is that only goes with a model, by its name; empty for one that may be a model."""
    base = stem_of(name)
    return next((kind for pattern, kind in _COMPANIONS if pattern.search(base)), "")


def precision(name: str) -> int:
    """The rank of an image encoder's type: F16 runs everywhere; BF16 is slow on older cards and processors, F32 takes
    twice the room for the same images, and what is quantised reads them worse."""
    words = re.split(r"[-_.]", name.lower())
    kinds = ("f16", "bf16", "f32", "q8_0")
    joined = "-".join(words).replace("q8-0", "q8_0").replace("fp16", "f16")
    return next((rank for rank, kind in enumerate(kinds) if re.search(rf"(^|-){kind}($|-)", joined)), len(kinds))


def is_projector(name: str) -> bool:
    return re.search(r"(^|[-_.])mmproj", name.rpartition("/")[2].lower()) is not None


def _until(headers: Mapping[str, str]) -> str:
    """When the hub answers again: `Retry-After`, or `t` of the RateLimit header (seconds)."""
    seconds = headers.get("retry-after", "") or next(iter(re.findall(r"\bt=(\d+)", headers.get("ratelimit", ""))), "")
    return f"again in {seconds} s" if seconds.isdigit() else "again within five minutes"


def explain(error: Exception, repo: str, file: str, revision: str = "main") -> StackError:
    """What a failed question to the hub means, in words."""
    from huggingface_hub import errors

    where = f"{repo}/{file}" if file else repo
    if isinstance(error, errors.OfflineModeIsEnabled):
        return MissingPart(f"{where} is not here, and this is offline mode", next="unset HF_HUB_OFFLINE")
    if isinstance(error, errors.GatedRepoError):
        return MissingPart(
            f"{repo} asks for its licence to be accepted first",
            next=f"accept it at {endpoint()}/{repo}, then set HF_TOKEN or run: hf auth login",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotSo(
            f"there is no repository {repo} on {endpoint()}, or it is private",
            next=f"{command_line('models', 'list')}   shows known names; a private one needs HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return GoneFile(
            f"{repo} has no commit or branch {printable(revision, 80)}",
            why="a repository that is made anew loses its commits",
            next=f"see {endpoint()}/{repo}/commits/main",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return GoneFile(f"{repo} has no {file or 'such file'}", next=f"see {endpoint()}/{repo}/tree/main")
    response = getattr(error, "response", None)
    if response is not None and isinstance(getattr(response, "status_code", None), int):
        return refused(where, response.status_code, response.headers, str(error))
    return _unreachable(where, error)


def refused(where: str, status: int, headers: Mapping[str, str], words: str = "") -> StackError:
    """What an answer means that is none. words: the hub's own."""
    reason = words.splitlines()[0][:200] if words else ""
    if status == 429:
        return MissingPart(
            f"{endpoint()} takes no more questions for now",
            why=f"it counts them by address: {_until(headers)}",
            next="wait, or set HF_TOKEN: who is logged in may ask twice as often",
        )
    if status in (401, 403):
        return MissingPart(f"{where} needs permission", why=reason, next="check HF_TOKEN")
    return MissingPart(
        f"{endpoint()} does not answer for {where}",
        why=reason or f"it said {status}",
        next=f"try again later, or name a mirror: HF_ENDPOINT=https://… {repeated()}; {_WITH_FILE}{repeated()}",
    )


def _unreachable(where: str, error: Exception) -> StackError:
    reason = str(error).splitlines()
    return MissingPart(
        f"{endpoint()} cannot be reached for {where}",
        why=f"{type(error).__name__}: {reason[0][:200] if reason else ''}",
        next=f"check the network, or name a mirror: HF_ENDPOINT=https://… {repeated()}; {_WITH_FILE}{repeated()}",
    )
