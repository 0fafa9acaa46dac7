"""Models as files: found where they are, downloaded whole and checked, kept, verified, removed."""

from llmstack.fetch.find_local import locate, read_catalog
from llmstack.fetch.model import ResolvedModel
from llmstack.fetch.pull import resolve

__all__ = ["ResolvedModel", "locate", "read_catalog", "resolve"]
