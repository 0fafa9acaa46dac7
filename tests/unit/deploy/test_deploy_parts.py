"""The parts of a deployment that decide: one word for the state, ports by owner, secrets, engines and their cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmstack.deploy import demo_model, keys
from llmstack.deploy.planning import served_name
from llmstack.deploy.status import StackState, health_of
from llmstack.engine.control import Readiness
from llmstack.errors import BadInput
from llmstack.paths import Home
from llmstack.supervisor import ServiceState, ServiceStatus

RUN, BACK, FAIL, STOP = ServiceState.RUNNING, ServiceState.BACKOFF, ServiceState.FAILED, ServiceState.STOPPED
READY, LOADING, GONE = Readiness.READY, Readiness.LOADING, Readiness.UNREACHABLE


@pytest.mark.parametrize(
    ("server", "proxy", "server_answers", "proxy_answers", "state"),
    [
        (RUN, RUN, READY, READY, StackState.READY),
        (RUN, RUN, LOADING, READY, StackState.STARTING),
        (RUN, RUN, GONE, GONE, StackState.STARTING),
        (BACK, RUN, GONE, READY, StackState.DEGRADED),
        (STOP, RUN, GONE, READY, StackState.DEGRADED),
        (FAIL, RUN, GONE, READY, StackState.FAILED),
        (STOP, STOP, GONE, GONE, StackState.STOPPED),
    ],
)
def test_one_word_for_both_services(
    server: ServiceState, proxy: ServiceState, server_answers: Readiness, proxy_answers: Readiness, state: StackState
) -> None:
    services = {name: ServiceStatus(name, found) for name, found in (("server", server), ("proxy", proxy))}
    assert health_of(services, server_answers, proxy_answers) is state


def test_a_demo_model_that_another_command_has_made_meanwhile_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "x").make()

    def slowly(text: str) -> Iterator[bytes]:
        yield b"mine"
        (faster,) = home.models.glob(".demo-*.partial")
        faster.with_name(faster.name[1:].split(".")[0] + ".gguf").write_bytes(b"theirs")

    monkeypatch.setattr("llmstack.demo.build_model", slowly)
    assert demo_model.ensure_demo_model(home).read_bytes() == b"theirs"
    assert len(list(home.models.iterdir())) == 1


class TestKeys:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return Home(tmp_path / "c", tmp_path / "s", tmp_path / "d", tmp_path / "x").make()

    def test_secrets_are_made_once_and_private(self, home: Home) -> None:
        keys.ensure(home)
        first = keys.token(home)
        keys.ensure(home)
        assert keys.token(home) == first
        assert len(first) > 40
        for path in (home.token, home.server_key):
            assert path.stat().st_mode & 0o777 == 0o600

    def test_a_token_that_others_can_read_is_refused(self, home: Home) -> None:
        keys.ensure(home)
        home.token.chmod(0o644)
        with pytest.raises(BadInput, match="can be read by others"):
            keys.ensure(home)

    def test_no_token_yet_names_the_command_that_makes_it(self, home: Home) -> None:
        with pytest.raises(BadInput) as refused:
            keys.token(home)
        assert refused.value.next == "llmstack up --proxy-only"


def test_a_model_named_like_the_vendor_s_is_set_apart() -> None:
    assert served_name("claude-distill-8b") == "local-claude-distill-8b"
    assert served_name("qwen3-coder-30b") == "qwen3-coder-30b"
