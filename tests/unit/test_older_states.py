"""Homes as older llmstacks left them: real files, made by checkouts of the commits in golden/states/README.md."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llmstack import stackfile
from llmstack.access.book import read_book
from llmstack.access.use import read_use
from llmstack.bench.record import history
from llmstack.deploy import transaction
from llmstack.deploy.planning import UpRequest, resumed
from llmstack.detect import calibration
from llmstack.hardware import Hardware
from llmstack.paths import Home
from llmstack.process.files import SupervisorFolder, next_order
from llmstack.proxy.live_config import LiveConfig
from llmstack.supervisor import ServiceState
from support.planner.draws import machine

STATES = Path(__file__).parent / "golden" / "states"
VERSIONS = sorted(path.name for path in STATES.iterdir() if path.is_dir())
ALONE = [version for version in VERSIONS if (STATES / version / "state" / "proxy.json").exists()]
KEYED = [version for version in VERSIONS if (STATES / version / "config" / "client-keys.json").exists()]


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home in which that version ran last."""
    shutil.copytree(STATES / request.param, tmp_path, dirs_exist_ok=True)
    home = Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache").make()
    home.token.write_text("token-of-the-owner\n")
    for path in (home.token, *home.config.iterdir()):
        path.chmod(0o600)
    return home


every_version = pytest.mark.parametrize("home", VERSIONS, indirect=True)


def test_the_versions_are_those_that_the_list_explains() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (STATES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == VERSIONS and len(VERSIONS) >= 5 and ALONE and KEYED


@every_version
def test_what_is_deployed_is_read_with_all_that_the_services_need(home: Home) -> None:
    stack = stackfile.read(home)
    assert stack is not None
    assert (stack.model.name, stack.supervisor, stack.n_ctx) == ("demo", "process", 16384)
    assert (stack.server.url, stack.proxy.url) == ("http://127.0.0.1:8510", "http://127.0.0.1:5510")
    assert [service.name for service in stack.services] == ["server", "proxy"]
    assert stack.services[0].argv == stack.server.argv and "serve-proxy" in stack.services[1].argv
    assert stack.health is not None and stack.health.hit_ratio > 0.9
    server = stack.running_server()
    assert (server.n_ctx_slot, server.n_parallel, server.n_predict) == (16384, 1, 8192)
    assert server.states_folder is not None and server.rolls_back
    stackfile.write(home, stack)
    assert stackfile.read(home) == stack, "written anew it is of today's format, and the same"


@every_version
def test_what_was_asked_for_comes_back_at_the_next_up(home: Home) -> None:
    """`up --ctx 16384` made each of them; the first versions kept only what was pinned."""
    assert resumed(home, UpRequest()).goal.ctx == 16384


@every_version
def test_an_up_that_was_cut_off_is_taken_up(home: Home) -> None:
    assert transaction.interrupted(home)
    previous = transaction.begin(home)
    assert previous.ran and previous.stack is not None
    assert previous.stack.n_ctx == 16384 and not previous.alone_ran


@every_version
def test_the_proxy_starts_on_it(home: Home) -> None:
    events: list[tuple[str, dict[str, object]]] = []
    live = LiveConfig(home, lambda event, fields: events.append((event, fields))).start()
    assert live.server is not None and live.server.url == "http://127.0.0.1:8510"
    assert not [fields for event, fields in events if "why" in fields]


@every_version
def test_a_living_supervisor_of_that_version_is_understood_and_told_what_changed(home: Home) -> None:
    folder = SupervisorFolder(home.state / "process", home.logs)
    order, report, stack = folder.read_order(), folder.read_report(), stackfile.read(home)
    assert report is not None and report.obeyed == order.number and stack is not None
    assert {name: actual.state for name, actual in report.services.items()} == {
        "server": ServiceState.RUNNING,
        "proxy": ServiceState.RUNNING,
    }
    assert all(actual.pid for actual in report.services.values())
    today = [replace(service, watchdog_s=service.watchdog_s + 1) for service in stack.services]
    changed = next_order(today, order)
    assert [service.run for service in changed.services] == [service.run + 1 for service in order.services], (
        "the older ones know no such field: only another number makes them start a service anew"
    )
    same = next_order(today, changed)
    assert same.services == changed.services and same.number == changed.number + 1


@every_version
def test_figures_of_before_are_read_or_passed_over_and_nothing_fails(home: Home) -> None:
    runs = history(home)
    assert all(run.prefill_tps for run in runs)
    hardware: Hardware = machine(12, 32)
    assert calibration.read(home, hardware) is None, "it was another machine's"


@pytest.mark.parametrize("home", ALONE, indirect=True)
def test_a_proxy_alone_is_read(home: Home) -> None:
    alone = stackfile.read_alone(home)
    assert alone is not None and alone.proxy.port == 5511 and "serve-proxy" in alone.service.argv
    assert stackfile.read_proxy(home) == alone.proxy and stackfile.services(home) == (alone.service,)


@pytest.mark.parametrize("home", KEYED, indirect=True)
def test_keys_and_what_they_used_are_read(home: Home) -> None:
    kim, lee = read_book(home).keys
    assert (kim.name, kim.models, kim.tokens_per_day) == ("kim", ("demo*",), 1000) and kim.expires is not None
    assert lee.revoked is not None and len(lee.former) == 1
    use = read_use(home).of("kim", kim.created)
    assert use.requests == 1 and use.last_used >= kim.created
    alone = stackfile.read_alone(home)
    assert alone is not None and alone.proxy.tls is not None and alone.proxy.is_open and not alone.proxy.is_plain
