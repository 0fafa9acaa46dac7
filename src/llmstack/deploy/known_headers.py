"""Headers of the catalog's files that are here, or were read on the hub before.

What the catalog says of a file is checked against its header, and the header goes before it.
"""

from __future__ import annotations

from contextlib import suppress

from llmstack.catalog.models import Model
from llmstack.catalog.shape_check import difference_sentence, differences
from llmstack.detect.model_file import open_model
from llmstack.errors import StackError
from llmstack.fetch import foreign_caches
from llmstack.fetch.find_local import locate_size, sources_of
from llmstack.fetch.header_cache import header_read_before
from llmstack.gguf import GgufHeader
from llmstack.paths import Home


class KnownHeaders:
    """Looks headers up, without the network, and collects where they are not what the catalog says.

    notes: a sentence for each such entry, by its name.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._caches = foreign_caches.on_this_machine()
        self.notes: dict[str, str] = {}

    def __call__(self, name: str, model: Model, quant: str) -> GgufHeader | None:
        header = header_read_before(self._home.cache, sources_of(model, model.sizes()[quant]))
        header = header or self._local(name, model, quant)
        if header is not None:
            note = difference_sentence(f"{name}:{quant}", differences(model, header))
            if note:
                self.notes.setdefault(name, note)
        return header

    def _local(self, name: str, model: Model, quant: str) -> GgufHeader | None:
        path = locate_size(self._home, name, model, quant, self._caches).path
        if path is None:
            return None
        with suppress(StackError):  # a broken file is told where it is used
            return open_model(path, cache=self._home.cache).header
        return None
