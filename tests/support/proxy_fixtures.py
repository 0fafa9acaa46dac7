"""A scripted upstream and a running proxy in front of it: one of each per module, put back between tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.proxy_stand import ProxyStand, standing
from support.upstream import Upstream, hello


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def module_stand(tmp_path_factory: pytest.TempPathFactory, module_upstream: Upstream) -> Iterator[ProxyStand]:
    with standing(tmp_path_factory.mktemp("proxy") / "home", module_upstream.port) as running:
        yield running


@pytest.fixture
def upstream(module_upstream: Upstream) -> Upstream:
    module_upstream.script = hello
    module_upstream.asked.clear()
    return module_upstream


@pytest.fixture
def stand(module_stand: ProxyStand, upstream: Upstream) -> ProxyStand:
    """The proxy, with the scripted upstream as its local server."""
    module_stand.forget_log()
    return module_stand
