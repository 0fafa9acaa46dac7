"""`models update` on a running stack: it moves to the new file under its old name, or runs on as it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.models import write_model
from support.search_hub import HubFile, HubRepo, SearchHub, search_hub
from support.stack import Stack
from support.talker import Talker

pytestmark = pytest.mark.timeout(400)
REPO = "maker/tiny-GGUF"
FILE = "Tiny-F16.gguf"
NAME = f"hf:{REPO}/{FILE}"


def file_of(path: Path) -> HubFile:
    data = path.read_bytes()
    return HubFile(data, len(data))


@dataclass(frozen=True)
class Published:
    """A stack that runs a model of a hub, and the hub."""

    stack: Stack
    hub: SearchHub
    folder: Path

    def publish(self, kind: str, commit: str, **changes: object) -> None:
        path = write_model(kind, self.folder / f"{commit[0]}.gguf", changes)  # type: ignore[arg-type]
        self.hub.repos[REPO].files[FILE], self.hub.repos[REPO].commit = file_of(path), commit

    def talk(self) -> int:
        return Talker(self.stack.url, self.stack.token, lines=20).ask("What grows in May?").total


@pytest.fixture
def published(stack_home: Stack, tmp_path: Path, built_engine: Path) -> Iterator[Published]:
    first = write_model("dense", tmp_path / "first.gguf")
    with search_hub({REPO: HubRepo({FILE: file_of(first)})}) as hub:
        variables = (("HF_ENDPOINT", hub.url), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", str(tmp_path / "hf")))
        stack = replace(stack_home, variables=variables)
        assert stack.run("engine", "use", str(built_engine / "llama-server")).status == 0
        stack.do("up", NAME, *stack.ports, "--ctx", "4096", "--set", "ub=256")
        yield Published(stack, hub, tmp_path)


def test_the_stack_moves_to_the_new_file_with_its_name_its_pins_and_its_ports(published: Published) -> None:
    before = published.stack.record()
    published.publish("dense", "b" * 40, **{"general.name": "second"})
    ran = published.stack.run("models", "update", f"{REPO}/{FILE}")
    assert ran.status == 0, ran.err
    assert "the stack runs on it, under the same name" in ran.out
    after = published.stack.record()
    assert after["model"]["name"] == before["model"]["name"]
    assert after["model"]["path"] != before["model"]["path"] and "@bbbbbbbbbbbb" in after["model"]["path"]
    assert after["proxy"]["port"] == published.stack.proxy_port
    assert after["goal"]["pins"] == before["goal"]["pins"] == {"ub": "256"}
    assert published.talk() > 0
    again = published.stack.run("models", "update", f"{REPO}@bbbbbbbbbbbb/{FILE}")
    assert again.status == 0 and "is what its repository has" in again.out


def test_a_new_file_that_no_stack_can_run_leaves_the_old_one_running(published: Published) -> None:
    before = published.stack.record()
    published.publish("dense", "c" * 40, **{"general.architecture": "notyetmade"})
    ran = published.stack.run("models", "update", f"{REPO}/{FILE}")
    assert ran.status != 0 and "Traceback" not in ran.err
    assert published.stack.record() == before
    assert published.talk() > 0
