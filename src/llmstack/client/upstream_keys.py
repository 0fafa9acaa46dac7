"""Whether an upstream has its key; never the key itself."""

from __future__ import annotations

import os
from pathlib import Path

from llmstack.catalog.routes import Target
from llmstack.paths import Home


def key_state(home: Home, target: Target) -> str:
    """`key`, `no key` (it is needed and missing), `open` (readable by others, so refused), or `none` needed."""
    if target.api_key_file is not None:
        path = home.config / Path(target.api_key_file).expanduser()
        try:
            return "open" if path.stat().st_mode & 0o077 else "key"
        except OSError:
            return "no key"
    if target.api_key_env is not None:
        return "key" if os.environ.get(target.api_key_env) else "no key"
    return "none"
