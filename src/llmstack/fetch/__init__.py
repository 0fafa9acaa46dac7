"""Models as files: found where they are, downloaded whole and checked, kept, verified, removed."""

from llmstack.fetch.locate import ResolvedModel, locate, read_catalog, resolve

__all__ = ["ResolvedModel", "locate", "read_catalog", "resolve"]
