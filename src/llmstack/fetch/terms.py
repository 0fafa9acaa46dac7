"""What is said of a model's licence before its files are downloaded."""

from __future__ import annotations

from llmstack.catalog.licenses import terms_of_its_own
from llmstack.fetch import hub
from llmstack.fetch.model import ResolvedModel


def terms_of(model: ResolvedModel) -> str:
    """The sentence about a licence with conditions; empty for an open one, and where none is named.

    The catalog's word where it has one, else that of the repository, which is asked for it.
    """
    source = next((source for source in (*model.missing, *model.sources) if source.repo), None)
    page = f"{hub.endpoint()}/{source.repo}" if source is not None else ""
    entry = model.entry
    if entry is not None and entry.license:
        return terms_of_its_own(model.name, entry.license, entry.license_url or page)
    if source is None:
        return ""
    return terms_of_its_own(model.name, hub.license_of(source.repo, source.revision), page)
