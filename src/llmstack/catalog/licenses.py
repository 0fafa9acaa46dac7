"""Which licences ask for nothing but a notice, and what is said of the others before their files are fetched."""

from __future__ import annotations

import re

# Names as the hub writes them.
_OPEN = re.compile(r"apache-2\.0|mit|bsd.*|cc0.*|cc-by-4\.0|openmdw.*|unlicense|isc|mpl-2\.0", re.I)


def is_open(name: str) -> bool:
    """Whether a licence asks for nothing but a notice. One that is not named is not open."""
    return bool(_OPEN.fullmatch(name))


def terms_of_its_own(model: str, license_name: str, page: str) -> str:
    """The sentence about a licence with conditions; empty for an open one, and where none is named. page: its text."""
    if not license_name or is_open(license_name):
        return ""
    return f"{model} comes under {license_name}, which sets conditions of its own: read them at {page}"
