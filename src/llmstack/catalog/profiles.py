"""[profiles.NAME] of models.toml: where Claude Code is led, by which models, with which key. The user's tables merge
over the shipped ones, key by key."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from llmstack.catalog.overlay import Overlay
from llmstack.errors import BadInput


class Gateway(enum.StrEnum):
    """STACK: this proxy. OFFICIAL: wherever Claude Code goes by itself. The others: a gateway of that protocol."""

    STACK = "stack"
    OFFICIAL = "official"
    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"
    VERTEX = "vertex"


class Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """model: of the main loop, and of every tier that has none of its own. context, max_output: tokens.

    token_file (absolute, or relative to the folder of models.toml), token_env: a fixed key. token_command: a command
    that prints one, asked again after token_ttl_s seconds. skip_auth: the gateway has cloud credentials of its own.
    """

    gateway: Gateway = Gateway.STACK
    base_url: str | None = None
    token_file: str | None = None
    token_env: str | None = None
    token_command: str | None = None
    token_ttl_s: float = 3600.0
    model: str | None = None
    opus: str | None = None
    sonnet: str | None = None
    haiku: str | None = None
    subagents: str | None = None
    context: int | None = None
    max_output: int | None = None
    region: str | None = None
    project: str | None = None
    skip_auth: bool = False
    prompt_caching: bool = True
    headers: dict[str, str] = {}
    env: dict[str, str] = {}


def profiles(overlay: Overlay) -> Mapping[str, Profile]:
    """Raises BadInput that names file, line and key."""
    read: dict[str, Profile] = {}
    for name in overlay.table("profiles"):
        profile = overlay.convert(("profiles", name), Profile)
        if profile.gateway is Gateway.ANTHROPIC and profile.base_url is None:
            where = overlay.where(("profiles", name))
            raise BadInput(
                f"{where}: profiles.{name} leads to a gateway and has no base_url", next='base_url = "http…"'
            )
        read[name] = profile
    return read


def profile(overlay: Overlay, name: str) -> Profile:
    """Raises BadInput for a name that is not there."""
    defined = profiles(overlay)
    if name not in defined:
        raise BadInput(
            f"there is no profile called {name}",
            why=f"known are {', '.join(sorted(defined))}",
            next=f"write [profiles.{name}] into your models.toml; docs/routing.md shows one",
        )
    return defined[name]
