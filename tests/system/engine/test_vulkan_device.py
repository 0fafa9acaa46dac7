"""A real device on a machine without a card: llama.cpp's Vulkan backend over Mesa's lavapipe, one or two of 2 GiB.

It computes on the processor, so models are small and prompts short. What is shown is everything but speed: the list,
the plan within the device's memory, the division among two, the offload that the server reports, and saved states.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.built_engine import LAVAPIPE
from support.models import write_model
from support.stack import Stack

pytestmark = pytest.mark.timeout(900)
DEVICE_MIB = 2048
SMALL = ("--ctx", "1024", "--set", "ub=128")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many devices there are: llama.cpp lists a device of the processor only when it is named."""
    monkeypatch.setenv("VK_ICD_FILENAMES", LAVAPIPE)

    def there_are(count: int) -> None:
        if count:
            monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", ",".join("0" * count))
        else:
            monkeypatch.delenv("GGML_VK_VISIBLE_DEVICES", raising=False)

    there_are(1)
    return there_are


@pytest.fixture
def stack(vulkan_engine: Path, devices: Any, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack.in_folder(tmp_path / "home").with_model(write_model("dense", tmp_path / "dense.gguf"))
    try:
        stack.do("engine", "use", str(vulkan_engine / "llama-server"))
        yield stack
    finally:
        stack.end()


def listed(stack: Stack) -> list[dict[str, Any]]:
    engines = stack.run("engine", "list", "--json").json["engines"]
    [used] = [engine for engine in engines if engine["in_use"]]
    rows: list[dict[str, Any]] = used["devices"]
    return rows


def value(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def served(stack: Stack) -> Any:
    status = stack.run("status", "--json").json
    assert status["state"] == "ready", status
    return status["served"]


def post(stack: Stack, text: str) -> Any:
    """The usage of one message through the proxy."""
    body = {"model": "local", "max_tokens": 4, "messages": [{"role": "user", "content": text}]}
    url, headers = f"{stack.url}/v1/messages", {"x-api-key": stack.token}
    answer = httpx.post(url, json=body, headers=headers, timeout=300, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]


def test_the_engine_lists_one_device_two_or_none_and_the_plan_follows(stack: Stack, devices: Any) -> None:
    for count, ids in ((1, ["Vulkan0"]), (2, ["Vulkan0", "Vulkan1"]), (0, [])):
        devices(count)
        assert [row["id"] for row in listed(stack)] == ids
        assert all(row["total_mib"] == DEVICE_MIB for row in listed(stack))
        plan = stack.run("plan", str(stack.model), "--json").json
        assert [device["id"] for device in plan["hardware"]["devices"]] == ids
        for use in plan["memory"]["devices"]:
            assert use["total_mib"] <= use["budget_mib"] < DEVICE_MIB


def test_a_model_on_the_device_is_offloaded_as_planned_and_the_server_says_so(stack: Stack) -> None:
    stack.up(*SMALL, "--set", "ngl=99")
    argv = json.loads((stack.root / "state" / "stack.json").read_text())["server"]["argv"]
    assert (value(argv, "-dev"), value(argv, "-ngl")) == ("Vulkan0", "9")
    now = served(stack)
    assert (now["layers"], now["layers_of"]) == (9, 9)
    assert list(now["buffers_mib"]) == ["Vulkan0"]
    planned = stack.run("plan", str(stack.model), *SMALL, "--set", "ngl=99", "--json").json
    assert now["buffers_mib"]["Vulkan0"] == pytest.approx(planned["memory"]["devices"][0]["weights_mib"], abs=1)


def test_two_devices_share_a_model_and_a_pinned_one_leaves_the_other_out(stack: Stack, devices: Any) -> None:
    devices(2)
    stack.up(*SMALL, "--set", "ngl=99", "--set", "ts=1,1")
    argv = json.loads((stack.root / "state" / "stack.json").read_text())["server"]["argv"]
    assert (value(argv, "-dev"), value(argv, "-ts")) == ("Vulkan0,Vulkan1", "1,1")
    both = served(stack)["buffers_mib"]
    assert sorted(both) == ["Vulkan0", "Vulkan1"] and all(mib > 0 for mib in both.values())
    stack.up(*SMALL, "--set", "ngl=99", "--set", "dev=Vulkan1")
    assert list(served(stack)["buffers_mib"]) == ["Vulkan1"]


def test_a_plan_beyond_the_device_is_refused_by_us_and_by_the_engine(stack: Stack, vulkan_engine: Path) -> None:
    """The cache of so much context is larger than the device; both say which memory is too small."""
    tokens = "786432"
    pins = (
        "--set",
        "ngl=99",
        "--set",
        "nkvo=off",
        "--set",
        f"c={tokens}",
        "--kv-type",
        "f16",
        "--set",
        "rope-scaling=yarn",
    )
    refused = stack.run("plan", str(stack.model), *pins, "--json")
    assert refused.status == 1 and refused.json["feasible"] is False
    assert "llvmpipe" in refused.json["reason"] and "may be used" in refused.json["reason"]
    argv = [str(vulkan_engine / "llama-server"), "-m", str(stack.model), "-dev", "Vulkan0", "-ngl", "99", "-c", tokens]
    argv += ["--rope-scaling", "yarn", "--rope-scale", "256", "-fit", "off", "-fa", "on"]
    argv += ["--port", str(stack.server_port)]
    ran = subprocess.run(argv, env=os.environ, capture_output=True, text=True, timeout=300)
    assert ran.returncode != 0
    # Mesa's device also has a limit of 128 MiB for one tensor, and the engine ends at whichever comes first.
    words = ("failed to allocate", "OutOfDeviceMemory", "in a buffer (Vulkan0) that cannot run the operation")
    assert any(word in ran.stderr for word in words), ran.stderr[-2000:]


def test_what_a_slot_on_the_device_holds_comes_back_after_a_restart(stack: Stack) -> None:
    stack.up(*SMALL, "--set", "ngl=99")
    text = "The garden has roses, tulips and a pond. " * 8
    first = post(stack, text)
    stack.do("restart", "server")
    again = post(stack, text)
    assert first["input_tokens"] + first.get("cache_read_input_tokens", 0) > 60
    assert again["cache_read_input_tokens"] > 60 and again["input_tokens"] < 20


def test_a_device_that_is_gone_is_named_and_nothing_is_started(stack: Stack, devices: Any) -> None:
    stack.up(*SMALL, "--set", "ngl=99")
    before = stack.run("status", "--json").json["services"]["server"]["pid"]
    devices(0)
    failed = stack.run(*stack.up_command("--ctx", "2048", "--set", "dev=Vulkan0"))
    assert failed.status == 2
    assert "-dev names Vulkan0, which the engine does not list" in failed.err
    assert stack.run("status", "--json").json["services"]["server"]["pid"] == before
