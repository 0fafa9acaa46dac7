"""Looks for GGUF repositories on the hub, and says of each which files it holds, by the commit that it is at now.

One search call, one call for each repository that is shown. What the hub's list says of a model (its gguf field) is of
one file, so sizes and digests come from the repository itself, and what a plan needs from each file's header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from llmstack.catalog.licenses import is_open
from llmstack.catalog.models import family_of, is_repo, quant_of, shards
from llmstack.errors import BadInput, StackError
from llmstack.fetch import hub
from llmstack.gguf import printable

MOST_REPOS = 50
MOST_QUERY = 200  # characters
TIMEOUT_S = 20.0
SORTS = ("downloads", "likes", "lastModified", "createdAt", "trendingScore")
_EXPAND = ["downloads", "likes", "lastModified", "gated", "cardData", "tags", "sha"]  # fmt: skip
# Makers of models, and those whose conversions many people run; of others the owner's name is all that is known.
KNOWN_OWNERS = frozenset({
    "ggml-org", "unsloth", "bartowski", "lmstudio-community", "mradermacher", "qwen", "google", "mistralai", "openai",
    "nvidia", "ibm-granite", "zai-org", "deepseek-ai", "liquidai", "huggingfacetb", "microsoft", "meta-llama",
    "bytedance-seed", "moonshotai", "minimaxai", "allenai",
})  # fmt: skip


class FoundFile(msgspec.Struct, frozen=True):
    """One size of a repository: all its shards. sha256: of each, empty where the hub gives none. bytes: of all."""

    files: tuple[str, ...]
    quant: str
    bytes: int
    sha256: tuple[str, ...] = ()


class FoundRepo(msgspec.Struct, frozen=True):
    """A repository at one commit. gated: its licence must be accepted first. modified: the day. known: its owner makes
    models, or conversions that many people run. base: the models that it says it was made of."""

    repo: str
    revision: str
    downloads: int = 0
    likes: int = 0
    modified: str = ""
    license: str = ""
    gated: bool = False
    known: bool = False
    base: tuple[str, ...] = ()
    files: tuple[FoundFile, ...] = ()
    projector: str = ""
    drafters: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its licence is one that asks for nothing but a notice; False where it names none."""
        return is_open(self.license)


def search(query: str, *, limit: int = 10, sort: str = "downloads") -> Iterator[FoundRepo]:
    """Repositories with GGUF files, the most downloaded first, each with its files. Raises BadInput for a query that is
    none, MissingPart without the hub; what is wrong with one repository is its `problem`."""
    query = query.strip()
    if not query or len(query) > MOST_QUERY or not query.isprintable():
        raise BadInput("there is nothing to look for", why="a few words of a model's name, such as qwen3 coder")
    if not 0 < limit <= MOST_REPOS:
        raise BadInput(f"--limit is {limit}: between 1 and {MOST_REPOS}")
    for row in _listed(query, limit, sort):
        repo = _repo(row)
        if is_repo(repo.repo):
            yield _with_files(repo)


def _listed(query: str, limit: int, sort: str) -> list[dict[str, Any]]:
    """The hub's list, page by page. Asked by httpx: the library waits for minutes, without a word, where the hub says
    that it was asked too often. Pages are followed on the same host only."""
    import httpx
    from huggingface_hub import get_token

    base, token, what = hub.endpoint(), get_token(), f"a search for {printable(query, 100)}"
    url: httpx.URL | None = httpx.URL(f"{base}/api/models", params={
        "search": query, "filter": "gguf", "sort": sort, "direction": "-1", "limit": limit, "expand[]": _EXPAND,
    })  # fmt: skip
    rows: list[dict[str, Any]] = []
    try:
        with httpx.Client(timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {token}"} if token else {}) as client:
            while url is not None and len(rows) < limit:
                response = client.get(url)
                if response.status_code != 200:
                    raise hub.refused(what, response.status_code, response.headers)
                page = response.json()
                rows += [row for row in page if isinstance(row, dict)] if isinstance(page, list) else []
                following = response.links.get("next", {}).get("url", "") if page else ""
                url = httpx.URL(following) if following.startswith(f"{base}/") else None
    except (httpx.HTTPError, ValueError) as error:
        raise hub.explain(error, what, "") from None
    return rows[:limit]


def _repo(row: dict[str, Any]) -> FoundRepo:
    """Its fields as far as they are what they should be: the hub's list is somebody else's text."""
    card = row.get("cardData") if isinstance(row.get("cardData"), dict) else {}
    assert isinstance(card, dict)
    tagged = (tag.removeprefix("license:") for tag in _texts(row.get("tags")) if tag.startswith("license:"))
    license_name = card.get("license_name") or card.get("license") or next(tagged, "")
    revision, name = row.get("sha"), str(row.get("id", ""))
    return FoundRepo(
        name,
        revision if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{40}", revision) else "main",
        downloads=_count(row.get("downloads")),
        likes=_count(row.get("likes")),
        modified=str(row.get("lastModified") or "")[:10],
        license=printable(license_name if isinstance(license_name, str) else "", 60),
        gated=bool(row.get("gated")),
        known=name.partition("/")[0].lower() in KNOWN_OWNERS,
        base=tuple(printable(base, 120) for base in _texts(card.get("base_model"))[:4]),
    )


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _with_files(repo: FoundRepo) -> FoundRepo:
    """With its sizes, smallest first; one whose files cannot be listed says why."""
    try:
        _, sizes = hub.listing(repo.repo, repo.revision)
    except StackError as error:
        return msgspec.structs.replace(repo, problem=error.what)
    files, seen = [], set()
    for name in sorted(sizes):
        first = shards(name)[0]
        if hub.companion(name) or first in seen:
            continue
        seen.add(first)
        names = shards(first)
        if not all(shard in sizes for shard in names):
            continue  # a part of a split model that is not whole
        digests = tuple(sizes[shard].sha256 for shard in names)
        whole = sum(sizes[shard].size for shard in names)
        files.append(FoundFile(names, quant_of(name), whole, digests if all(digests) else ()))
    files.sort(key=lambda file: (family_of(file.files[0]), file.bytes))
    names = tuple(sizes)
    drafters = tuple(sorted(name for name in names if hub.companion(name) == "a draft"))
    return msgspec.structs.replace(repo, files=tuple(files), projector=hub.projector(names), drafters=drafters)
