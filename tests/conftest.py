"""What every part of the suite needs: default signals, time limits, and a wait of 700 s that runs beside the rest."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.long_silence import LongSilence
from support.paths import TESTS

pytest_plugins = ["support.built_engine", "support.proxy_fixtures", "support.real_models"]

# A shell starts a background job with SIGINT and SIGQUIT ignored, and what is ignored is inherited by every child.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# A busy machine makes no test fail: how long an example takes says nothing of what it shows.
settings.register_profile("llmstack", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llmstack")

SYSTEM_S = 900.0  # real engines and clients on a busy machine; every other test has the default of pyproject.toml

# Seconds that a fixture may take the first time on a machine, when it builds or installs; workers wait for each other.
FIRST_USE_S = {
    "built_engine": 3600,
    "vulkan_engine": 5400,
    "cuda_build": 1800,
    "smollm2": 600,
    "claude_code": 900,
    "either": 900,
    "session_manager": 900,
}

SILENCE = pytest.StashKey[LongSilence]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="Also the tests on a Vulkan device, and with NVIDIA's compiler from PyPI."
    )


def runs_vulkan(config: pytest.Config) -> bool:
    from support.built_engine import has_vulkan_engine  # a plugin: pytest must import it first

    return config.option.long or has_vulkan_engine()


def pytest_report_header(config: pytest.Config) -> list[str]:
    wheels = "run" if config.option.long else "are left out: ./stack test --long fetches 570 MB for them"
    vulkan = (
        "run" if runs_vulkan(config) else "are left out: no engine is built for it here; --long builds one (20 minutes)"
    )
    slow = "runs" if config.option.long else "is left out: ./stack test --long takes a quarter of an hour for it"
    return [
        f"Vulkan device: its tests {vulkan}",
        f"CUDA from wheels: its tests {wheels}",
        f"an upgrade to a slow engine: its test {slow}",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's limit is its own or that of its room, and the time of what it may have to install."""
    left_out = set() if config.option.long else {"cuda_build", "slow_engine"}
    left_out |= set() if runs_vulkan(config) else {"vulkan_engine"}
    long = [item for item in items if left_out.intersection(getattr(item, "fixturenames", ()))]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)
    for item in items:
        marker = item.get_closest_marker("timeout")
        is_system = item.path.is_relative_to(TESTS / "system")
        own = marker.args[0] if marker else SYSTEM_S if is_system else float(config.getini("timeout"))
        names = getattr(item, "fixturenames", ())
        more = sum(seconds for name, seconds in FIRST_USE_S.items() if name in names)
        if is_system or more:
            item.add_marker(pytest.mark.timeout(own + more), append=False)


def silence_folder(config: pytest.Config) -> Path:
    """One folder for all workers of a run: they have theirs below the controller's."""
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    base = factory.getbasetemp()
    return (base.parent if hasattr(config, "workerinput") else base) / "long-silence"


def start_silence(config: pytest.Config, selected: Iterable[str]) -> None:
    if SILENCE not in config.stash:
        config.stash[SILENCE] = LongSilence(silence_folder(config))
    config.stash[SILENCE].start(selected)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without workers this process runs the tests; each worker leaves it to the one that controls them."""
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        start_silence(session.config, (item.nodeid for item in session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    start_silence(node.config, ids)


def pytest_unconfigure(config: pytest.Config) -> None:
    if SILENCE in config.stash:
        config.stash[SILENCE].close()


@pytest.fixture(scope="session")
def long_silence_folder(pytestconfig: pytest.Config) -> Path:
    return silence_folder(pytestconfig)
