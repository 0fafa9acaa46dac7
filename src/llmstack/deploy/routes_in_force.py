"""Whether the proxy goes by the user's models.toml: of a wrong one it goes on with what it read before."""

from __future__ import annotations

from llmstack.catalog import overlay, routes
from llmstack.errors import BadInput
from llmstack.paths import Home, catalog_texts


def out_of_force(home: Home) -> tuple[str, ...]:
    """One sentence with the line that is wrong; empty where all of it is in force."""
    try:
        routes.read(overlay.load(catalog_texts(home)))
    except BadInput as error:
        return (f"{error.what}: until that is corrected, nothing of this file is in force",)
    return ()
