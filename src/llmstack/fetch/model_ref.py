"""What a person may write for a model: a catalog name, a path, `hf:owner/repo/file.gguf`, or a URL."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from llmstack.catalog.models import is_file, is_repo
from llmstack.commands import command_line
from llmstack.errors import BadInput


def _next() -> str:
    return f"{command_line('models', 'pull', 'NAME')}, or hf:OWNER/REPO/FILE.gguf, or https://…/FILE.gguf, or a path"


class ReferenceKind(enum.StrEnum):
    NAME = "name"
    PATH = "path"
    HUB = "hub"
    URL = "url"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. text: the name, path or URL; the rest is filled for the hub.

    file: empty when only a repository (and perhaps a quant) was named.
    """

    kind: ReferenceKind
    text: str
    repo: str = ""
    file: str = ""
    quant: str = ""
    revision: str = "main"


def parse(text: str) -> Reference:
    """Decides what was meant, by form alone. Raises BadInput for what can be none of them."""
    if not text or "\0" in text or "\n" in text:
        raise BadInput("this is no model's name", next=_next())
    if text.startswith(("http://", "https://")):
        return _url(text)
    if text.startswith("hf:"):
        return _hub(text)
    if "://" in text:
        raise BadInput(f"{text.split('://')[0]}:// is not a way to fetch a model", next=_next())
    if text.startswith(("/", "./", "../", "~")) or text.endswith(".gguf"):
        return Reference(ReferenceKind.PATH, text)
    repo, _, quant = text.partition(":")
    if is_repo(repo):
        return Reference(ReferenceKind.HUB, text, repo=repo, quant=quant)
    if "/" in text:
        return Reference(ReferenceKind.PATH, text)
    return Reference(ReferenceKind.NAME, text)


def _hub(text: str) -> Reference:
    body, _, revision = text.removeprefix("hf:").partition("@")
    if revision and not re.fullmatch(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*", revision):
        raise BadInput(f"{revision!r} is not a revision", next=_next())
    parts = body.split("/")
    repo = "/".join(parts[:2])
    repo, _, quant = repo.partition(":")
    file = "/".join(parts[2:])
    if not is_repo(repo):
        raise BadInput(f"{text} does not name a repository: {repo!r} is not OWNER/NAME", next=_next())
    if file and not is_file(file):
        raise BadInput(f"{file!r} is not a .gguf file inside a repository", next=_next())
    return Reference(ReferenceKind.HUB, text, repo=repo, file=file, quant=quant, revision=revision or "main")


def _url(text: str) -> Reference:
    parts = urlsplit(text)
    host = (parts.hostname or "").lower()
    if not host:
        raise BadInput(f"{text} names no host", next=_next())
    if parts.username or parts.password:
        raise BadInput(
            "a URL with a user name or a password in it is refused", why="it would end up in logs and records"
        )
    path = [unquote(piece) for piece in parts.path.split("/") if piece]
    if host in ("huggingface.co", "hf.co") and len(path) >= 5 and path[2] in ("resolve", "blob"):
        return _hub(f"hf:{path[0]}/{path[1]}/{'/'.join(path[4:])}@{path[3]}")
    if not path or not is_file(path[-1]):
        raise BadInput(f"{text} does not end in the name of a .gguf file", next=_next())
    return Reference(ReferenceKind.URL, text, file=path[-1])
