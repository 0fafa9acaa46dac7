"""What of the user's shell a service is started with: what decides its devices, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.deploy.services import proxy_service, server_service
from llmstack.engine import embedded
from llmstack.engine.environment import DEVICE_VARIABLES
from llmstack.engine.find import Engine, EngineKind, EngineOrigin
from llmstack.engine.flags import parse_help
from llmstack.paths import Home
from llmstack.stackfile import ProxyEntry

SHELL = {
    "LD_LIBRARY_PATH": "/opt/my build/lib:/50%",
    "HIP_VISIBLE_DEVICES": "1",
    "GGML_VK_VISIBLE_DEVICES": "0",
    "CUDA_VISIBLE_DEVICES": "0",
}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEVICE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, text in (SHELL | {"ANTHROPIC_API_KEY": "secret", "HF_TOKEN": "secret"}).items():
        monkeypatch.setenv(name, text)


def environment_of_server() -> dict[str, str]:
    flags = parse_help(embedded.help_text())
    engine = Engine("x", EngineKind.BINARY, EngineOrigin.PATH, ("/opt/llama-server",), build=11434, flags=flags)
    home = Home(Path("/c"), Path("/s"), Path("/d"), Path("/x"))
    return dict(server_service(home, engine, ("-m", "/m.gguf", "-ngl", "0"), "127.0.0.1", 8080).env)


def test_the_server_gets_what_decides_its_devices_and_the_order_of_the_bus() -> None:
    environment = environment_of_server()
    assert {name: environment[name] for name in SHELL} == SHELL
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "secret" not in environment.values()


def test_the_proxy_computes_nothing_and_gets_none_of_it() -> None:
    environment = dict(proxy_service(ProxyEntry()).env)
    assert not set(environment) & {*SHELL, "CUDA_DEVICE_ORDER"}
    assert "secret" not in environment.values()
