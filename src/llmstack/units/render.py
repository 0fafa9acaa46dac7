"""From a `Service` to the text of its user unit. Templates come in as text: this floor opens no file."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.errors import BadInput
from llmstack.supervisor import Service
from llmstack.units import escape
from llmstack.units.mark import mark
from llmstack.units.parse import parse
from llmstack.units.secrets import hidden_paths

if TYPE_CHECKING:
    import jinja2

BASE_TEMPLATE = "unit.service.j2"
SHARED_TEMPORARY = ("/tmp", "/var/tmp")


class Tier(enum.StrEnum):
    """FULL needs user namespaces for user units: `ProtectSystem=`, `PrivateTmp=` and kin imply PrivateUsers."""

    FULL = "full"
    BASIC = "basic"


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What a unit needs to know besides its service.

    suffix: `-` and a short hash for a home of its own, else empty; it keeps two homes apart.
    environment: for every service. writable: folders that stay writable in the FULL tier.
    cache: where the GPU driver may keep compiled kernels. log_folder: files there instead of the journal.
    secrets: files and folders of this stack that the server never reads; person: whose keys it does not see either,
    None where no file can be hidden.
    start_limit within start_window_s: eight starts in half an hour, so that a model that needs three minutes to load
    before memory runs out still meets its limit, and three requests that each end the server twice do not.
    """

    suffix: str = ""
    tier: Tier = Tier.BASIC
    environment: Mapping[str, str] = field(default_factory=dict)
    writable: tuple[str, ...] = ()
    cache: str | None = None
    secrets: tuple[str, ...] = ()
    person: str | None = None
    log_folder: str | None = None
    start_limit: int = 8
    start_window_s: int = 1800
    restart_s: float = 2.0
    watchdog_s: int = 60


def unit_name(service: str, suffix: str = "") -> str:
    return f"llmstack-{service}{suffix}.service"


def identifier(service: str, suffix: str = "") -> str:
    """SyslogIdentifier=: what journalctl filters by."""
    return f"llmstack-{service}{suffix}"


def render(service: Service, settings: UnitSettings, templates: Mapping[str, str]) -> str:
    """The marked text of one unit. `templates`: file name to text, with `unit.service.j2` among them.

    Raises BadInput when the argv, a variable or a path cannot be written in a unit.
    """
    specific = f"llmstack-{service.name}.service.j2"
    name = specific if specific in templates else BASE_TEMPLATE
    template = _environment(tuple(sorted(templates.items()))).get_template(name)
    return mark(template.render(**_values(service, settings)))


def sandbox(templates: Mapping[str, str]) -> tuple[str, ...]:
    """The `Name=value` settings that the FULL tier adds to the strictest unit: what a probe has to try."""
    probe = Service("proxy", "probe", ("/bin/true",))
    basic = parse(render(probe, UnitSettings(tier=Tier.BASIC), templates)).settings
    full = parse(render(probe, UnitSettings(tier=Tier.FULL), templates)).settings
    return tuple(f"{key}={value}" for section, key, value in full if (section, key, value) not in basic)


def _values(service: Service, settings: UnitSettings) -> dict[str, Any]:
    log = f"{settings.log_folder}/{service.name}.log" if settings.log_folder is not None else None
    environment = {**settings.environment, **service.env}
    return {
        "description": escape.text_value(service.description),
        "exec_start": escape.exec_line(service.argv),
        "environment": [escape.environment_line(k, v) for k, v in sorted(environment.items())],
        "working_directory": _optional_path(service.working_directory),
        "identifier": identifier(service.name, settings.suffix),
        "server_unit": unit_name("server", settings.suffix),
        "log_file": _optional_path(log),
        "notify": service.notify,
        "watchdog_s": settings.watchdog_s,
        "start_limit": settings.start_limit,
        # The proxy costs little to start, and brings a server back that was given up: it has no limit itself.
        "start_window_s": 0 if service.notify else settings.start_window_s,
        "restart_s": f"{settings.restart_s:g}",
        "memory_max_mib": _memory(service.memory_max_mib),
        "memory_high_mib": _memory_high(service.memory_max_mib),
        "full": settings.tier is Tier.FULL,
        "private_tmp": not _needs_shared_tmp(service, settings),
        "writable": " ".join(escape.path_word(path) for path in settings.writable),
        "cache": None if settings.cache is None else escape.path_word(settings.cache),
        "hidden": " ".join(f"-{escape.path_word(path)}" for path in _hidden(service, settings)),
        "gpu_caches": [] if settings.cache is None else _gpu_caches(settings.cache),
    }


def _optional_path(path: object) -> str | None:
    return None if path is None else escape.path_value(str(path))


def _memory(limit: int | None) -> int | None:
    if limit is not None and limit <= 0:
        raise BadInput(f"a memory limit of {limit} MiB leaves no room to run")
    return limit


def _memory_high(limit: int | None) -> int | None:
    """Where reclaim starts: 5 % below the hard limit, so a leak slows down before it dies."""
    return None if limit is None else max(limit - max(limit // 20, 64), 1)


def _hidden(service: Service, settings: UnitSettings) -> tuple[str, ...]:
    """A path that no unit can carry is left out: an odd home must not keep the server from starting."""
    texts = [*service.argv, *service.env.values(), *settings.environment.values()]
    paths = hidden_paths(settings.person, settings.secrets, texts) if settings.person else ()
    return tuple(path for path in paths if path.isprintable())


def _needs_shared_tmp(service: Service, settings: UnitSettings) -> bool:
    """PrivateTmp= would hide a model, an engine or a home that lies below /tmp."""
    texts = [*service.argv, *service.env.values(), *settings.environment.values(), *settings.writable]
    texts += [str(service.working_directory or "")]
    return any(f"{folder}/" in text or text == folder for folder in SHARED_TEMPORARY for text in texts)


def _gpu_caches(cache: str) -> list[str]:
    """CUDA and Mesa write compiled kernels to ~/.nv and ~/.cache, which the FULL tier makes read-only."""
    return [
        escape.environment_line("CUDA_CACHE_PATH", f"{cache}/cuda"),
        escape.environment_line("MESA_SHADER_CACHE_DIR", f"{cache}/mesa"),
    ]


@functools.lru_cache(maxsize=8)
def _environment(templates: tuple[tuple[str, str], ...]) -> jinja2.Environment:
    import jinja2

    # nosec: unit files are no HTML; every value is escaped by llmstack.units.escape before it gets here.
    return jinja2.Environment(
        loader=jinja2.DictLoader(dict(templates)),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
