"""`upstream list|test|add` and requests through the running proxy, against hosts that behave as documented."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from support.hosts.chat import Cerebras, LmStudio, Ollama, OpenRouter, Vllm
from support.stack import Stack

from .conftest import Hosts, chats, store


def ask(stack: Stack, path: str = "/v1/messages", **body: Any) -> tuple[int, Any]:
    asked = {"max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], **body}
    headers = {"x-api-key": stack.token, "content-type": "application/json", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(stack.url + path, json.dumps(asked).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def found(stack: Stack, name: str, *options: str) -> dict[str, dict[str, str]]:
    """The last check of each name."""
    ran = stack.run("upstream", "test", name, "--json", *options)
    assert ran.json["ok"] == (ran.status == 0)
    return {check["name"]: check for check in ran.json["checks"]}


def grades(stack: Stack, name: str, *options: str) -> dict[str, str]:
    return {key: check["status"] for key, check in found(stack, name, *options).items()}


class TestTest:
    def test_cerebras_passes_with_what_is_shipped(self, stack: Stack, hosts: Hosts) -> None:
        assert set(grades(stack, "cerebras").values()) == {"ok"}
        script = hosts.cerebras.script
        assert isinstance(script, Cerebras) and not script.refused

    def test_openrouter_passes_by_a_model_of_its_list(self, stack: Stack) -> None:
        found_grades = grades(stack, "openrouter", "--model", "openai/gpt-4o")
        assert found_grades.pop("context") == "warn"  # it does not say how much it takes
        assert len(found_grades) == 6 and set(found_grades.values()) == {"ok"}

    @pytest.mark.parametrize("name", ["vllm", "lmstudio"])
    def test_a_host_on_this_machine_passes_without_a_key(self, stack: Stack, name: str) -> None:
        found_grades = grades(stack, name)
        assert found_grades.pop("context") == "warn"
        assert set(found_grades.values()) == {"ok"} and {"address", "stream", "tools"} <= set(found_grades)

    def test_the_context_that_vllm_names_is_in_the_remedy(self, stack: Stack) -> None:
        remedy = found(stack, "vllm")["context"]["remedy"].split()
        assert remedy == f"llmstack upstream add vllm --model {Vllm.MODEL} --context 65536".split()
        (stack.root / "config" / "models.toml").unlink()
        host = stack.run(*remedy[1:], "--no-key", "--base-url", "http://127.0.0.1:9/v1")
        assert host.status == 0, host.err

    def test_vllm_without_its_tool_parser_names_its_flags(self, stack: Stack, hosts: Hosts) -> None:
        hosts.vllm.script = Vllm(tools=False)
        tools = found(stack, "vllm")["tools"]
        assert tools["status"] == "fail" and "--enable-auto-tool-choice" in tools["finding"]

    def test_official_anthropic_passes(self, stack: Stack) -> None:
        assert set(grades(stack, "anthropic").values()) == {"ok"}

    def test_a_wrong_key(self, stack: Stack) -> None:
        store(stack, "cerebras", "csk-wrong")
        key = found(stack, "cerebras")["key"]
        assert key["status"] == "fail" and "refuses the key" in key["finding"]
        assert key["remedy"] == "llmstack upstream add cerebras"

    def test_no_key(self, stack: Stack) -> None:
        (stack.root / "config" / "keys" / "cerebras").unlink()
        assert found(stack, "cerebras")["key"]["remedy"] == "llmstack upstream add cerebras"

    def test_a_key_that_others_can_read(self, stack: Stack) -> None:
        store(stack, "cerebras", Cerebras.KEY).chmod(0o644)
        assert "chmod 600" in found(stack, "cerebras")["key"]["remedy"]

    def test_a_model_it_has_not(self, stack: Stack) -> None:
        model = found(stack, "cerebras", "--model", "qwen-3-coder")["model"]
        assert model["status"] == "fail" and Cerebras.MODEL in model["finding"]

    def test_nothing_there(self, stack: Stack) -> None:
        stack_file = stack.root / "config" / "models.toml"
        stack_file.write_text('[upstreams.ollama]\nbase_url = "http://127.0.0.1:9/v1"\n')
        address = found(stack, "ollama")["address"]
        assert address["status"] == "fail" and address["remedy"] == "ollama serve"

    def test_ollama_with_too_small_a_context_and_its_remedy(self, stack: Stack, hosts: Hosts) -> None:
        checks = found(stack, "ollama")
        assert {checks[name]["status"] for name in ("answer", "stream", "tools")} == {"ok"}
        assert checks["num_ctx"]["status"] == "fail" and "4096 tokens" in checks["num_ctx"]["finding"]
        remedy = checks["num_ctx"]["remedy"].split()
        assert remedy[:4] == ["llmstack", "upstream", "add", "ollama"]
        overlay = stack.root / "config" / "models.toml"
        overlay.write_text("")
        added = stack.run(*remedy[1:], "--base-url", hosts.ollama.url + "/v1")
        assert added.status == 0, added.err
        assert grades(stack, "ollama")["num_ctx"] == "ok"

    def test_a_model_that_calls_no_tools(self, stack: Stack) -> None:
        tools = found(stack, "local")["tools"]  # the demo model says one sentence
        assert tools["status"] == "fail" and "no tool call came back" in tools["finding"]

    def test_it_never_leaves_the_machine_when_told_so(self, stack: Stack) -> None:
        (stack.root / "config" / "models.toml").write_text("offline = true\n")
        assert grades(stack, "cerebras") == {"offline": "fail"}

    def test_an_unknown_name(self, stack: Stack) -> None:
        ran = stack.run("upstream", "test", "nobody")
        assert ran.status == 2 and "known are" in ran.err


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("name", "model"), [("vllm", Vllm.MODEL), ("lmstudio", LmStudio.MODEL)])
def test_a_prompt_too_long_for_a_local_host_makes_the_client_compact(
    stack: Stack, hosts: Hosts, name: str, model: str, stream: bool
) -> None:
    hosts.vllm.script, hosts.lmstudio.script = Vllm(context=100), LmStudio(context=100)
    long = [{"role": "user", "content": "word " * 400}]
    status, answer = ask(stack, model=f"{name}/{model}", messages=long, stream=stream)
    assert status == 400
    assert re.fullmatch(r"prompt is too long: \d+ tokens > 100 maximum", answer["error"]["message"])


def test_list_shows_keys_by_state_only(stack: Stack) -> None:
    ran = stack.run("upstream", "list", "--json")
    rows = {row["name"]: row for row in ran.json["upstreams"]}
    assert (rows["cerebras"]["key"], rows["ollama"]["key"], rows["litellm"]["key"]) == ("key", "none", "no key")
    assert Cerebras.KEY not in ran.out and rows["local"]["routes"] == ["*"]


def test_a_key_typed_at_a_terminal_is_not_echoed(stack: Stack) -> None:
    (stack.root / "config" / "keys" / "cerebras").unlink()
    (stack.root / "config" / "models.toml").write_text("")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmstack", "upstream", "add", "cerebras"],
        env=stack.environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    typed = False
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                data = os.read(master, 4096)
            except OSError:
                break
            if not data:
                break
            shown += data
        if not typed and b"not shown" in shown:
            time.sleep(0.3)
            os.write(master, b"csk-typed-in\n")
            typed = True
    assert process.wait(10) == 0, shown
    os.close(master)
    assert typed and b"csk-typed-in" not in shown
    key = stack.root / "config" / "keys" / "cerebras"
    assert key.read_text() == "csk-typed-in\n" and key.stat().st_mode & 0o777 == 0o600


def test_a_key_from_stdin(stack: Stack) -> None:
    (stack.root / "config" / "models.toml").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "llmstack", "upstream", "add", "openrouter", "--key-stdin", "--model", "openai/gpt-4o"],
        env=stack.environment, input="sk-or-piped\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sk-or-piped" not in done.stdout + done.stderr
    assert (stack.root / "config" / "keys" / "openrouter").read_text() == "sk-or-piped\n"


class TestOllama:
    def test_thinking_off_is_said_and_on_is_shown(self, stack: Stack, hosts: Hosts) -> None:
        ask(stack, model="ollama/qwen3:1.7b")
        assert chats(hosts.ollama)[-1]["reasoning_effort"] == "none"
        thinking = {"type": "enabled", "budget_tokens": 2000}
        status, answer = ask(stack, model="ollama/qwen3:1.7b", thinking=thinking, max_tokens=4000)
        assert status == 200 and chats(hosts.ollama)[-1]["reasoning_effort"] == "low"
        assert [block["type"] for block in answer["content"]] == ["thinking", "text"]

    def test_a_model_that_cannot_think_is_not_asked_to_again(self, stack: Stack, hosts: Hosts) -> None:
        hosts.ollama.script = Ollama(thinks=False)
        thinking = {"type": "enabled", "budget_tokens": 2000}
        for _ in range(2):
            status, answer = ask(stack, model="ollama/qwen3:1.7b", thinking=thinking, max_tokens=4000)
            assert status == 200 and answer["content"][0]["type"] == "text"
        assert len(chats(hosts.ollama)) == 3  # refused once, then known

    def test_a_call_that_comes_whole_with_the_wrong_reason(self, stack: Stack) -> None:
        tool = {"name": "read_file", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
        status, answer = ask(stack, model="ollama/qwen3:1.7b", tools=[tool])
        assert status == 200 and answer["stop_reason"] == "tool_use"
        assert answer["content"][-1]["input"] == {"path": "notes.txt"}

    def test_what_would_be_cut_in_silence_is_too_long_instead(self, stack: Stack, hosts: Hosts) -> None:
        overlay = stack.root / "config" / "models.toml"
        overlay.write_text(overlay.read_text().replace("[upstreams.ollama]\n", "[upstreams.ollama]\ncontext = 4096\n"))
        long = [{"role": "user", "content": "word " * 6000}]
        status, answer = ask(stack, model="ollama/qwen3:1.7b", messages=long)
        assert status == 400 and answer["error"]["message"].startswith("prompt is too long: ")
        assert not chats(hosts.ollama)

    def test_an_image_reaches_a_model_that_sees(self, stack: Stack, hosts: Hosts) -> None:
        hosts.ollama.script = Ollama(sees=True)
        source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
        status, _ = ask(stack, model="ollama/qwen3:1.7b", messages=[{"role": "user", "content": content}])
        assert status == 200 and "data:image/png;base64," in json.dumps(chats(hosts.ollama)[-1])

    def test_a_model_that_is_not_pulled_says_so(self, stack: Stack) -> None:
        status, answer = ask(stack, model="ollama/llama3.2:3b")
        assert status == 400 and "not found, try pulling it first" in answer["error"]["message"]

    def test_usage_is_the_real_one(self, stack: Stack) -> None:
        _, answer = ask(stack, model="ollama/qwen3:1.7b", messages=[{"role": "user", "content": "x" * 4000}])
        assert answer["usage"]["input_tokens"] > 900 and answer["usage"]["output_tokens"] == 12


class TestOpenRouter:
    def test_no_credits_are_named_and_not_retried(self, stack: Stack) -> None:
        status, answer = ask(stack, model="openrouter/broke/model")
        assert status == 402 and "Insufficient credits" in answer["error"]["message"]

    def test_an_error_inside_the_stream_is_an_error(self, stack: Stack) -> None:
        status, answer = ask(stack, model="openrouter/flaky/model")
        assert status >= 500 and "Provider disconnected" in answer["error"]["message"]

    def test_reasoning_becomes_thinking(self, stack: Stack) -> None:
        _, answer = ask(stack, model="openrouter/openai/gpt-4o", messages=[{"role": "user", "content": "think hard"}])
        assert [block["type"] for block in answer["content"]] == ["thinking", "text"]

    def test_a_wrong_key_is_named(self, stack: Stack) -> None:
        store(stack, "openrouter", "sk-or-wrong")
        status, answer = ask(stack, model="openrouter/openai/gpt-4o")
        assert status == 401 and "openrouter refused the key of this stack" in answer["error"]["message"]
        assert OpenRouter.KEY not in json.dumps(answer)


RECIPE = """
[[routes]]
match = "claude-opus-*"
upstream = "anthropic"

[[routes]]
match = "claude-haiku-*"
upstream = "local"
"""


def test_sonnet_and_haiku_here_and_opus_in_the_cloud(stack: Stack, hosts: Hosts) -> None:
    overlay = stack.root / "config" / "models.toml"
    overlay.write_text(overlay.read_text() + RECIPE)
    time.sleep(0.1)
    _, opus = ask(stack, model="claude-opus-4-8")
    assert opus["content"][0]["text"] == "hello from the host" and len(hosts.anthropic.asked) == 1
    for name in ("claude-sonnet-4-6", "claude-haiku-4-5-20251001", "anything"):
        status, here = ask(stack, model=name)
        assert status == 200 and "demo model" in here["content"][0]["text"]
    assert len(hosts.anthropic.asked) == 1


def test_offline_is_a_403_and_the_local_model_goes_on(stack: Stack) -> None:
    overlay = stack.root / "config" / "models.toml"
    overlay.write_text("")
    assert stack.run("upstream", "offline", "on").status == 0
    status, answer = ask(stack, model="cerebras/qwen-3-coder-480b")
    assert status == 403 and "cerebras is not on this machine" in answer["error"]["message"]
    assert ask(stack, model="demo")[0] == 200
    assert stack.run("upstream", "offline", "off").status == 0


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_file_that_is_wrong_keeps_the_old_routes(stack: Stack, path: str) -> None:
    overlay = stack.root / "config" / "models.toml"
    good = overlay.read_text()
    assert ask(stack, path, model=f"cerebras/{Cerebras.MODEL}")[0] == 200 or path.endswith("completions")
    overlay.write_text(good + "\nnonsense = [")
    time.sleep(0.7)
    assert ask(stack, model=f"cerebras/{Cerebras.MODEL}")[0] == 200
    assert stack.run("doctor").out.count("models.toml") >= 1
