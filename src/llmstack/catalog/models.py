"""The models a person can name: where their files are, how large, and how their makers want them run."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from llmstack.catalog.overlay import Overlay
from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.gguf.header import VOCAB_APART
from llmstack.gguf.shards import shard_name


class Reasoning(enum.StrEnum):
    """How a model's thinking is switched."""

    NONE = "none"  # it never thinks
    ALWAYS = "always"  # it always thinks
    TEMPLATE = "template"  # the chat template takes enable_thinking
    EFFORT = "effort"  # the template takes reasoning_effort (low, medium, high); it cannot be switched off


class ToolFormat(enum.StrEnum):
    """What a tool call looks like in the model's own text (llama.cpp's parsers read all of these)."""

    JSON = "json"  # {"name", "arguments"} in <tool_call> tags or bare: Qwen2.5, Qwen3, Granite, Hermes
    QWEN_XML = "qwen-xml"  # <tool_call><function=…><parameter=…>: Qwen3-Coder, Qwen3.5 and later, Nemotron 3
    HARMONY = "harmony"  # gpt-oss channels
    MISTRAL = "mistral"  # [TOOL_CALLS]name[ARGS]{…}
    GLM = "glm"  # <tool_call>name<arg_key>…</arg_key><arg_value>…: GLM, Laguna
    GEMMA = "gemma"  # Gemma 4's own call tokens
    ATEM = "atem"  # <atem:function_calls> to=NAME: Muse Glimmer
    COHERE = "cohere"  # <|START_ACTION|> and JSON: North, Command
    TEXT = "text"  # no format of its own: the grammar of the tool schema makes it


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the model's maker recommends; None leaves it to llama-server."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None

    def flags(self) -> tuple[tuple[str, str], ...]:
        """As llama-server's options (`--temp`, …), those that are set."""
        names = {
            "temperature": "--temp",
            "top_p": "--top-p",
            "top_k": "--top-k",
            "min_p": "--min-p",
            "repeat_penalty": "--repeat-penalty",
            "presence_penalty": "--presence-penalty",
        }
        values = ((flag, getattr(self, name)) for name, flag in names.items())
        return tuple((flag, f"{value:g}") for flag, value in values if value is not None)


class Quant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One size of a model. files: the first shard first. size: bytes of all files together, exact; 0 when unknown.

    about_gb: its size as published in GB (10^9 bytes), where only that is known. sha256: one per file; empty
    where no published figure was at hand: the hub's own is then used at the pull. repo, revision: where it is not
    beside the model's other sizes.
    """

    file: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    about_gb: float = 0.0
    sha256: str | tuple[str, ...] = ()
    repo: str = ""
    revision: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return self.files or ((self.file,) if self.file else ())

    @property
    def bytes(self) -> int:
        """The exact size, or the rounded one; 0 when neither is known."""
        return self.size or int(self.about_gb * 1e9)

    @property
    def digests(self) -> tuple[str, ...]:
        return (self.sha256,) if isinstance(self.sha256, str) else self.sha256


class Drafter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that may guess ahead for a large model: a smaller one with its vocabulary, or one that can do only that.

    size: bytes, exact. arch, shape: as of a model, enough to plan with before a download; without them the header is
    read from where the file is.
    """

    repo: str
    file: str
    arch: str = ""
    shape: dict[str, Any] = {}
    size: int = 0
    sha256: str = ""
    revision: str = "main"


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A published figure of a benchmark. source: the page that states it. note: what one should know of it."""

    name: str
    value: float
    source: str
    note: str = ""


class FactSources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """For each kind of fact the pages that it was read from.

    files: names, sizes and digests. parts: the same of an image encoder and of a file that guesses ahead. shape:
    dimensions. tools, reasoning: how calls look and how thinking is switched.
    """

    files: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()
    license: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()

    def items(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each kind that has a page."""
        return ((kind, getattr(self, kind)) for kind in self.__struct_fields__ if getattr(self, kind))


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of the catalog.

    quality: rank among the shipped models for coding, 1 is best; scores: the figures behind it. superseded_by: the
    entry that is better at the same, and no larger. shape: GGUF values of the model (`block_count`, …; arrays allowed),
    enough to plan before a download; without them its header is read. total, active: parameters in billions.
    mmproj, mmproj_size, mmproj_sha256: the image encoder in the same repository, its bytes and its digest.
    license_url: where its terms are. checked: the day (ISO) on which its facts were looked up; facts_from: where.
    handoff: base URL of an engine elsewhere that serves it (then nothing is downloaded).
    """

    repo: str = ""
    revision: str = "main"
    file: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    sha256: str | tuple[str, ...] = ()
    quants: dict[str, Quant] = {}
    quant: str = ""
    url: str = ""
    mmproj: str = ""
    mmproj_size: int = 0
    mmproj_sha256: str = ""
    summary: str = ""
    license: str = ""
    license_url: str = ""
    checked: str = ""
    total: float | None = None
    active: float | None = None
    context: int | None = None
    quality: int | None = None
    scores: tuple[Score, ...] = ()
    superseded_by: str = ""
    tools: ToolFormat | None = None
    reasoning: Reasoning | None = None
    sampling: Sampling = Sampling()
    sampling_thinking: Sampling = Sampling()
    quirks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    facts_from: FactSources = FactSources()
    arch: str = ""
    shape: dict[str, Any] = {}
    handoff: str = ""
    drafter: Drafter | None = None

    def server_flags(self, *, thinking: bool = False) -> tuple[str, ...]:
        """The maker's sampling settings as llama-server's arguments: its defaults for requests that set none."""
        sampling = self.sampling_thinking if thinking and self.sampling_thinking.flags() else self.sampling
        return tuple(word for pair in sampling.flags() for word in pair)

    @property
    def order(self) -> tuple[bool, int]:
        """Sorts models, the best first: what is superseded behind all others, what has no rank behind its peers."""
        return bool(self.superseded_by), self.quality or UNRANKED

    def pages(self) -> tuple[str, ...]:
        """Every page that a fact of it was read from, each once."""
        named = [page for _, pages in self.facts_from.items() for page in pages]
        return tuple(dict.fromkeys((*self.sources, *named, *(score.source for score in self.scores))))

    def revision_of(self, quant: Quant) -> str:
        """The branch, tag or commit of one of its sizes: its own, the model's where both share a repository."""
        return quant.revision or (self.revision if quant.repo in ("", self.repo) else "main")

    def sizes(self) -> dict[str, Quant]:
        """Every quant by name, the recommended one first; a plain `file` counts as one without a table."""
        if not self.quants:
            plain = Quant(file=self.file, files=self.files, size=self.size, sha256=self.sha256)
            return {quant_of(plain.names[0]) or "default": plain} if plain.names else {}
        first = self.quant if self.quant in self.quants else next(iter(self.quants))
        return {first: self.quants[first], **{name: quant for name, quant in self.quants.items() if name != first}}


class Catalog(msgspec.Struct, frozen=True):
    """All models by name, in the order of the files."""

    models: Mapping[str, Model]

    def find(self, name: str) -> tuple[str, Model, str] | None:
        """`NAME` or `NAME:QUANT` → (name, model, quant), quant empty when none is named. Case does not matter."""
        stem, _, quant = name.partition(":")
        for key, model in self.models.items():
            if key.lower() == stem.lower():
                if not quant:
                    return key, model, ""
                for size in model.sizes():
                    if size.lower() == quant.lower():
                        return key, model, size
                raise BadInput(
                    f"{key} has no size {quant}",
                    why=f"it has {', '.join(model.sizes())}",
                    next=command_line("models", "show", key),
                )
        return None

    def near(self, name: str) -> tuple[str, ...]:
        """Names that look like this one, for an error message."""
        import difflib

        return tuple(difflib.get_close_matches(name.partition(":")[0].lower(), list(self.models), n=3, cutoff=0.4))


UNRANKED = 999  # behind every rank
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_QUANT = re.compile(r"(?:^|[-_.])((?:UD-)?(?:I?Q\d(?:_\w+)*|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))(?=[-.]|$)", re.I)


def quant_of(file: str) -> str:
    """The quantisation named in a file's name (`…-Q4_K_M-00001-of-00002.gguf` → Q4_K_M), or an empty string."""
    quants = _QUANT.findall(stem_of(file))
    return str(quants[-1]).upper() if quants else ""


def stem_of(file: str) -> str:
    """A file's name without folder, ending and shard number: what all shards of a model have in common."""
    name = file.rpartition("/")[2]
    shard = shard_name(name)
    return shard.stem if shard is not None else name.removesuffix(".gguf")


def family_of(file: str) -> str:
    """What a file's name says beside its quantisation: files of one family are sizes of one model."""
    return _QUANT.sub("", stem_of(file)).strip("-_.").lower()


def shards(file: str) -> tuple[str, ...]:
    """All names of a split file from any one of them."""
    shard = shard_name(file)
    return tuple(shard.all()) if shard is not None and 1 <= shard.number <= shard.count else (file,)


def read_models(overlay: Overlay) -> Catalog:
    """[models.*] as records. Raises BadInput that names file, line and key."""
    models: dict[str, Model] = {}
    for name in overlay.table("models"):
        model = overlay.convert(("models", name), Model)
        for problem, path in _problems(name, model):
            where = overlay.where(("models", name, *path))
            raise BadInput(
                f"{where + ': ' if where else ''}{problem}", next="edit the file; docs/models.md lists every key"
            )
        models[name] = model
    for name in models:
        for problem in _successor_problems(name, models):
            where = overlay.where(("models", name, "superseded_by"))
            raise BadInput(f"{where + ': ' if where else ''}{problem}", next="edit the file")
    return Catalog(models)


def _successor_problems(name: str, models: Mapping[str, Model]) -> Iterator[str]:
    successor = models[name].superseded_by
    if not successor:
        return
    if successor not in models:
        yield f"models.{name}.superseded_by: there is no model named {successor}"
    elif models[successor].superseded_by:
        yield f"models.{name}.superseded_by: {successor} is superseded itself, by {models[successor].superseded_by}"


def _problems(name: str, model: Model) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if not _NAME.fullmatch(name):
        yield f"the model name {name!r} may hold letters, digits, and . _ + - only", ()
    if model.checked and not _is_day(model.checked):
        yield f"models.{name}.checked: {model.checked!r} is no day such as 2026-11-21", ("checked",)
    if model.handoff:
        return
    yield from _drafter_problems(name, model)
    if not model.sizes() and not model.url:
        yield f"models.{name} lacks file, files, quants or url", ()
    if model.sizes() and not model.repo and not any(quant.repo for quant in model.quants.values()) and not model.url:
        yield (
            f"models.{name} lacks repo: the files {', '.join(next(iter(model.sizes().values())).names)} are where?",
            (),
        )
    for repo, path in [
        (model.repo, ("repo",)),
        *((quant.repo, ("quants", key, "repo")) for key, quant in model.quants.items()),
    ]:
        if repo and not is_repo(repo):
            yield f"models.{name}.repo: {repo!r} is not OWNER/NAME", path
    if model.mmproj_sha256 and not _DIGEST.fullmatch(model.mmproj_sha256):
        yield (
            f"models.{name}.mmproj_sha256 must be 64 hexadecimal digits, not {model.mmproj_sha256!r}",
            ("mmproj_sha256",),
        )
    for page, named_by in _addresses(model):
        if not page.startswith("https://"):
            yield f"models.{name}: {page!r} is no https:// address", named_by
    if model.quant and model.quants and model.quant not in model.quants:
        yield f"models.{name}.quant: there is no {model.quant} among {', '.join(model.quants)}", ("quant",)
    for key, quant in model.sizes().items():
        here: tuple[str | int, ...] = ("quants", key) if key in model.quants else ()
        if not quant.names:
            yield f"models.{name}.quants.{key} lacks file or files", here
        for file in (*quant.names, *((model.mmproj,) if model.mmproj else ())):
            if not is_file(file):
                yield f"models.{name}: {file!r} is not a plain file name inside a repository", here
        for digest in quant.digests:
            if not _DIGEST.fullmatch(digest):
                yield f"models.{name}: sha256 must be 64 hexadecimal digits, not {digest!r}", (*here, "sha256")
        if quant.digests and len(quant.digests) != len(quant.names):
            yield f"models.{name}: {len(quant.names)} files but {len(quant.digests)} sha256", (*here, "sha256")


def _addresses(model: Model) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Every page that it names, and where: they are printed for a person to open."""
    if model.license_url:
        yield model.license_url, ("license_url",)
    yield from ((page, ("facts_from", kind)) for kind, pages in model.facts_from.items() for page in pages)
    yield from ((score.source, ("scores",)) for score in model.scores)


def _drafter_problems(name: str, model: Model) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    draft = model.drafter
    if draft is None:
        return
    if not is_repo(draft.repo):
        yield f"models.{name}.drafter.repo: {draft.repo!r} is not OWNER/NAME", ("drafter", "repo")
    if not is_file(draft.file):
        yield (
            f"models.{name}.drafter: {draft.file!r} is not a plain file name inside a repository",
            ("drafter", "file"),
        )
    if draft.sha256 and not _DIGEST.fullmatch(draft.sha256):
        yield (
            f"models.{name}.drafter: sha256 must be 64 hexadecimal digits, not {draft.sha256!r}",
            ("drafter", "sha256"),
        )
    if draft.shape and not draft.arch:
        yield f"models.{name}.drafter lacks arch, of which its shape is", ("drafter",)
    own, other = model.shape.get("vocab_size"), draft.shape.get("vocab_size")
    if isinstance(own, int) and isinstance(other, int) and abs(own - other) > VOCAB_APART:
        yield (
            f"models.{name}.drafter.shape.vocab_size: {other} is too far from the model's {own}: "
            f"llama.cpp takes a second model only with the same vocabulary",
            ("drafter", "shape", "vocab_size"),
        )


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_repo(text: str) -> bool:
    """OWNER/NAME as the hub allows it (huggingface_hub's validate_repo_id)."""
    part = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
    return bool(re.fullmatch(rf"{part}/{part}", text)) and "--" not in text and ".." not in text


def is_file(text: str) -> bool:
    """A relative path of plain names that ends in .gguf: nothing that could leave a folder."""
    parts = text.split("/")
    return text.endswith(".gguf") and all(
        re.fullmatch(r"[A-Za-z0-9_][\w.+()-]*", part) and ".." not in part for part in parts
    )
