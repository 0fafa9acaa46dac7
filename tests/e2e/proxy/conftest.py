"""A scripted upstream and a running proxy in front of it: one of each per module, put back between tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxying.claude import Claude, Done, conversation, is_main
from proxying.stand import Stand, standing
from proxying.upstream import Asked, Upstream, Wire, hello, say


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def module_stand(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("proxy") / "home", module_upstream.port) as running:
        yield running


@pytest.fixture
def upstream(module_upstream: Upstream) -> Upstream:
    module_upstream.script = hello
    module_upstream.asked.clear()
    return module_upstream


@pytest.fixture
def stand(module_stand: Stand, upstream: Upstream) -> Stand:
    """The proxy, with the scripted upstream as its local server."""
    module_stand.forget_log()
    return module_stand


class LongSilence:
    """Claude Code asking an upstream that says nothing for six minutes, beside the other tests."""

    SILENT_S = 360.0

    def __init__(self, program: Path, root: Path) -> None:
        self.done: Done | None = None
        self.error: BaseException | None = None
        self.lines: list[dict[str, object]] = []
        self.asked = 0
        self._program, self._root = program, root
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def _work(self) -> None:
        async def silent(asked: Asked, wire: Wire) -> None:
            if is_main(asked):
                await asyncio.sleep(self.SILENT_S)
            await conversation(say("patience rewarded"))(asked, wire)

        server = Upstream(silent)
        with standing(self._root / "stand", server.port) as running:
            claude = Claude(self._program, self._root / "home", self._root / "work")
            self.done = claude.run(running, "think long", timeout_s=self.SILENT_S + 120)
            self.lines = running.requests()
        self.asked = sum(1 for asked in server.completions if is_main(asked))
        server.close()


@pytest.fixture(scope="session", autouse=True)
def long_silence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LongSilence | None:
    """Started first, looked at last: only when the test that looks at it was selected."""
    if not any("six_minutes" in item.nodeid for item in request.session.items):
        return None
    program: Path = request.getfixturevalue("claude_code")
    return LongSilence(program, tmp_path_factory.mktemp("silence"))
