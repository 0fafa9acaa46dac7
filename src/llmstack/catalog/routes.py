"""Upstreams and routes of models.toml: which server answers a model name, and how it is spoken to.

The user's file overlays the shipped one: upstream tables merge key by key, the user's routes come first, the first
route whose glob matches wins. A route inherits every setting of its upstream and may override any of them.
An unknown key is an error that names it.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from llmstack.catalog.overlay import CatalogTexts, Overlay, load
from llmstack.protocol.dialect import TURNS

UpstreamKind = Literal["llama-server", "openai", "anthropic"]
FALLBACK_ON = ("unreachable", "loading", "overloaded", "overflow", "timeout", "engine_died")
_CAUSES = frozenset({*FALLBACK_ON, "upstream", "malformed", "unsupported"})


def without_password(url: str | None) -> str | None:
    """A URL as it may be shown."""
    if url is None or "@" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be read)"
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl() if "@" in parts.netloc else url


class UpstreamSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What can be said of an upstream, and again of a route. None: not said."""

    kind: UpstreamKind | None = None
    base_url: str | None = None
    api_key_file: str | None = None
    api_key_env: str | None = None
    model: str | None = None
    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    keepalive_s: float | None = None
    extra_headers: dict[str, str] | None = None
    extra_body: dict[str, Any] | None = None
    images: Literal["auto", "pass", "placeholder", "refuse"] | None = None
    server_tools: Literal["explain", "drop", "refuse"] | None = None
    thinking: Literal["template", "effort", "effort-or-none", "none"] | None = None
    thinking_blocks: Literal["asked", "always", "never"] | None = None
    thinking_budget: dict[str, int] | None = None
    replay_reasoning: bool | None = None
    fields: list[str] | None = None
    without: list[str] | None = None
    max_tokens_field: str | None = None
    context: int | None = None
    max_output: int | None = None
    stream: bool | None = None
    join: bool | None = None
    recover_tool_calls: bool | None = None
    repair_arguments: bool | None = None
    stable_prefix: bool | None = None
    show_reading: bool | None = None
    display_name: str | None = None


class Route(UpstreamSettings, kw_only=True):
    match: str
    upstream: str
    fallback: list[str] | None = None
    fallback_on: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream with every setting decided. timeout_s: the longest silence of the upstream, in seconds.

    api_key_file: absolute, or relative to the folder of the user's models.toml. without: fields it answers 400 to.
    stable_prefix: what differs between directories and days is moved behind what is always the same.
    model None: the requested name is passed on. context, max_output: tokens, None when not known. thinking_budget: the
    most tokens of thinking by kind of turn (protocol.dialect.Turn), 0 for none; what is missing has no bound.
    """

    name: str
    kind: UpstreamKind
    base_url: str | None
    api_key_file: str | None
    api_key_env: str | None
    model: str | None
    timeout_s: float
    connect_timeout_s: float
    keepalive_s: float
    extra_headers: Mapping[str, str]
    extra_body: Mapping[str, Any]
    images: Literal["auto", "pass", "placeholder", "refuse"]
    server_tools: Literal["explain", "drop", "refuse"]
    thinking: Literal["template", "effort", "effort-or-none", "none"]
    thinking_blocks: str
    thinking_budget: Mapping[str, int]
    replay_reasoning: bool
    fields: frozenset[str]
    without: frozenset[str]
    max_tokens_field: str
    context: int | None
    max_output: int | None
    stream: bool
    join: bool
    recover_tool_calls: bool
    repair_arguments: bool
    stable_prefix: bool
    show_reading: bool
    display_name: str | None

    @property
    def is_local(self) -> bool:
        """Whether it is the stack's own server, whose address, context and key come from what is deployed."""
        return self.kind == "llama-server" and self.base_url is None

    @property
    def stays_here(self) -> bool:
        """Whether its requests stay on this machine: the stack's own server, or an address of loopback."""
        if self.base_url is None:
            return True
        host = urlsplit(self.base_url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """Who answers a request: the targets in the order of trying, and which causes go on to the next.

    fallback_on: values of protocol.errors.Cause. refused: targets left out because `offline` keeps requests on this
    machine; with no target left, nobody may answer.
    """

    match: str
    targets: tuple[Target, ...]
    fallback_on: frozenset[str]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """offline: upstreams that are not on this machine are never asked."""

    upstreams: Mapping[str, UpstreamSettings]
    routes: tuple[Route, ...]
    offline: bool = False

    def choose(self, model: str) -> RouteChoice | None:
        """The first route whose glob matches the requested name.

        A name `UPSTREAM/MODEL` reaches any upstream without a route of its own: it comes before a route for every name.
        """
        for route in self.routes:
            if not fnmatch.fnmatchcase(model, route.match):
                continue
            named = self._named(model) if route.match == "*" else None
            if named is not None:
                return named
            targets = [resolve(route.upstream, self.upstreams[route.upstream], route)]
            targets += [resolve(name, self.upstreams[name], None) for name in route.fallback or ()]
            causes = frozenset(FALLBACK_ON if route.fallback_on is None else route.fallback_on)
            return self._allowed(RouteChoice(route.match, tuple(targets), causes))
        return self._named(model)

    def _named(self, model: str) -> RouteChoice | None:
        name, slash, rest = model.partition("/")
        if not slash or not rest or name not in self.upstreams:
            return None
        target = replace(resolve(name, self.upstreams[name], None), model=rest)
        return self._allowed(RouteChoice(f"{name}/*", (target,), frozenset()))

    def _allowed(self, choice: RouteChoice) -> RouteChoice:
        if not self.offline:
            return choice
        allowed = tuple(target for target in choice.targets if target.stays_here)
        refused = tuple(target.name for target in choice.targets if not target.stays_here)
        return replace(choice, targets=allowed, refused=refused)

    def names(self) -> tuple[str, ...]:
        """The requested names that can be listed: routes without a wildcard."""
        return tuple(r.match for r in self.routes if not any(c in r.match for c in "*?["))


def resolve(name: str, upstream: UpstreamSettings, route: Route | None) -> Target:
    def setting(key: str, default: Any) -> Any:
        for level in (route, upstream):
            value = getattr(level, key) if level is not None else None
            if value is not None:
                return value
        return default

    def merged(key: str) -> dict[str, Any]:
        over = getattr(route, key) if route is not None else None
        return {**(getattr(upstream, key) or {}), **(over or {})}

    kind: UpstreamKind = setting("kind", "openai")
    local = kind == "llama-server"
    return Target(
        name=name,
        kind=kind,
        base_url=setting("base_url", None),
        api_key_file=setting("api_key_file", None),
        api_key_env=setting("api_key_env", None),
        model=setting("model", None),
        timeout_s=setting("timeout_s", 3000.0 if local else 600.0),
        connect_timeout_s=setting("connect_timeout_s", 5.0 if local else 15.0),
        keepalive_s=setting("keepalive_s", 15.0),
        extra_headers=merged("extra_headers"),
        extra_body=merged("extra_body"),
        images=setting("images", "auto"),
        server_tools=setting("server_tools", "explain"),
        thinking=setting("thinking", "template" if local else "effort"),
        thinking_blocks=setting("thinking_blocks", "asked"),
        thinking_budget=merged("thinking_budget"),
        replay_reasoning=setting("replay_reasoning", True),
        fields=frozenset(setting("fields", ())),
        without=frozenset(setting("without", ())),
        max_tokens_field=setting("max_tokens_field", "max_tokens"),
        context=setting("context", None),
        max_output=setting("max_output", None),
        stream=setting("stream", True),
        join=setting("join", True),
        recover_tool_calls=setting("recover_tool_calls", True),
        repair_arguments=setting("repair_arguments", True),
        stable_prefix=setting("stable_prefix", local),
        show_reading=setting("show_reading", False),
        display_name=setting("display_name", None),
    )


def parse(shipped: str, user: str | None = None) -> Routing:
    """`read` of the two files' texts."""
    return read(load(CatalogTexts(shipped.encode(), None if user is None else user.encode())))


def read(catalog: Overlay) -> Routing:
    """Raises BadInput that names file, line and key."""
    upstreams = {name: catalog.convert(("upstreams", name), UpstreamSettings) for name in catalog.table("upstreams")}
    routes = tuple(catalog.convert(("routes", number), Route) for number in range(len(catalog.data.get("routes", ()))))
    for name, settings in upstreams.items():
        _check_upstream(catalog, name, settings)
    for number, route in enumerate(routes):
        _check_route(catalog, number, route, upstreams)
    offline = catalog.data.get("offline", False)
    if not isinstance(offline, bool):
        raise catalog.wrong(("offline",), "must be true or false", next="offline = true")
    return Routing(upstreams, routes, offline)


def _check_upstream(catalog: Overlay, name: str, settings: UpstreamSettings) -> None:
    where = ("upstreams", name)
    if settings.kind is None:
        raise catalog.wrong(where, "needs a kind", next='kind = "openai", for example')
    if settings.base_url is not None and not settings.base_url.startswith(("http://", "https://")):
        raise catalog.wrong((*where, "base_url"), "must begin with http:// or https://")
    if settings.kind != "llama-server" and settings.base_url is None:
        raise catalog.wrong(where, "needs a base_url")
    _check_budget(catalog, where, settings)


def _check_budget(catalog: Overlay, where: tuple[str | int, ...], settings: UpstreamSettings) -> None:
    for turn, tokens in (settings.thinking_budget or {}).items():
        if turn not in TURNS:
            raise catalog.wrong(
                (*where, "thinking_budget", turn), "is no kind of turn", next=f"known are {', '.join(TURNS)}"
            )
        if tokens < 0:
            raise catalog.wrong((*where, "thinking_budget", turn), "must be at least 0", next=f"{turn} = 0")


def _check_route(catalog: Overlay, number: int, route: Route, upstreams: Mapping[str, UpstreamSettings]) -> None:
    for key, names in (("upstream", (route.upstream,)), ("fallback", route.fallback or ())):
        for name in names:
            if name not in upstreams:
                raise catalog.wrong(
                    ("routes", number, key),
                    f"names an unknown upstream: {name}",
                    next=f"known are {', '.join(sorted(upstreams))}",
                )
    _check_budget(catalog, ("routes", number), route)
    for cause in route.fallback_on or ():
        if cause not in _CAUSES:
            raise catalog.wrong(
                ("routes", number, "fallback_on"),
                f"has an unknown cause: {cause}",
                next=f"known are {', '.join(sorted(_CAUSES))}",
            )
