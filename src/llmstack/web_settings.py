"""Who searches the web for side calls, and whether pages are fetched: `config/web.json`, which only commands write.

A key stands in a file of its own (0600) below `keys`, named after its back end, so that no back end is ever sent
another one's.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmstack.commands import command_line
from llmstack.errors import BadInput
from llmstack.paths import Home, write_private
from llmstack.protocol.web.services import SERVICES


class WebSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """service: a name of protocol.web.services, or "" for none. base_url: None where the service has its own. command:
    argv, the query comes behind it. key_env: a variable of the proxy's environment in place of a key file. fetch: pages
    may be fetched."""

    service: str = ""
    base_url: str | None = None
    command: tuple[str, ...] = ()
    key_env: str | None = None
    fetch: bool = False


def key_file(home: Home, service: str) -> Path:
    """The dot keeps it apart from the key of an upstream, whose name can have none."""
    return home.keys / f"web-search.{service}"


def key_state(home: Home, settings: WebSettings) -> str:
    """`key`, `no key`, `open` (readable by others, so refused), `variable`, or `none` needed."""
    service = SERVICES.get(settings.service)
    if service is None or not service.needs_key:
        return "none"
    if settings.key_env is not None:
        return "variable"
    try:
        return "open" if key_file(home, settings.service).stat().st_mode & 0o077 else "key"
    except OSError:
        return "no key"


def read_settings(home: Home) -> WebSettings:
    """Nothing is on where there is no file. Raises BadInput for one that cannot be read."""
    try:
        return msgspec.json.decode(home.web.read_bytes(), type=WebSettings)
    except FileNotFoundError:
        return WebSettings()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        again = command_line("web-search", "use", "--help")
        raise BadInput(f"{home.web} cannot be read", why=str(error), next=f"remove it, then: {again}") from None


def write_settings(home: Home, settings: WebSettings) -> None:
    write_private(home.web, msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
