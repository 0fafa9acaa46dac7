"""Models as files: found where they are, downloaded whole and checked, kept, verified, removed.

| module         | what it does                                               |
| -------------- | ---------------------------------------------------------- |
| model_ref      | what a person may write for a model                        |
| model          | a model as files: where each comes from, and where it is   |
| find_local     | from what was written to files on this machine             |
| models_dir     | the stack's own store of models, a record beside each file |
| inventory      | which files of it a name stands for                        |
| foreign_caches | model files that other programs already have               |
| pull           | what a located model lacks, downloaded whole and checked   |
| transfer       | one file over HTTP: resumed, checked, then named           |
| terms          | what is said of a licence before a download                |
| trust          | where a download may be sent                               |
| progress       | what a pull tells while it runs                            |
| hub            | what the Hugging Face hub says of a file                   |
| discover       | GGUF repositories on the hub, and which files they hold    |
| found          | what they would do on a machine, from their headers        |
| remote         | the header of a model that is still on its server          |
| header_cache   | headers that were read there before                        |
| survey         | which models of the catalog run on a machine, and how fast |
| upstream_state | whether a pulled file is still what its repository has     |
| moved          | where a file is now that is gone under its name            |
| catalog_in_use | which fetched catalog counts                               |
| catalog_source | a newer catalog, from an address that the user configured  |
| newer          | what its repository has now, pulled beside a file          |
| cards          | what they do on common cards                               |
"""

from typing import TYPE_CHECKING, Any

from llmstack.fetch.find_local import locate, read_catalog
from llmstack.fetch.model import ResolvedModel

if TYPE_CHECKING:
    from llmstack.fetch.pull import resolve

__all__ = ["ResolvedModel", "locate", "read_catalog", "resolve"]


def __getattr__(name: str) -> Any:
    """`resolve` loads what downloads when it is first asked for: a plan only looks up what is here."""
    if name == "resolve":
        from llmstack.fetch.pull import resolve

        return resolve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
