"""A file that is gone under its name or its commit: looked for by its digest, else by its size.

Makers rearrange their repositories: what is gone after it was pinned has another name there more often than none.
"""

from __future__ import annotations

from llmstack.catalog.models import quant_of
from llmstack.commands import command_line
from llmstack.errors import StackError
from llmstack.fetch import hub


def same_bytes(repo: str, sha256: str) -> tuple[str, str] | None:
    """The name and the commit under which a repository has these very bytes now; None where it has not."""
    if not sha256:
        return None
    try:
        commit, files = hub.listing(repo)
    except StackError:
        return None
    return next(((name, commit) for name, file in files.items() if file.sha256 == sha256), None)


def next_step(repo: str, file: str) -> str:
    """The command that goes on without it: its repository's file of the same size, else a search."""
    try:
        listed = hub.gguf_files(repo)
    except StackError:
        listed = {}
    quant = quant_of(file)
    same = [name for name in listed if quant and quant_of(name) == quant and not hub.companion(name)]
    if file in listed or same:
        return f"{command_line('plan', f'hf:{repo}/{file if file in listed else same[0]}')}   plans what is there now"
    return command_line("models", "find", repo.rpartition("/")[2].removesuffix("-GGUF"))
