"""The main job on real parts: `up --demo`, clients get their answers, and it heals, refuses and leaves no trace."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import anthropic
import psutil
import pytest
from anthropic.types import RawMessageStreamEvent, TextBlock, ToolUseBlock
from pydantic import TypeAdapter

from llmstack.demo import SENTENCE
from support.stack import Stack
from support.wait import eventually, is_open

WEATHER: anthropic.types.ToolParam = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}


def client_of(home: Stack) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=home.url, api_key=home.token, max_retries=0, timeout=120)


def pids(home: Stack) -> dict[str, int]:
    return {name: service["pid"] for name, service in home.run("status", "--json").json["services"].items()}


class TestARunningDemoStack:
    def test_status_says_ready_by_the_contract(self, demo_stack: Stack) -> None:
        ran = demo_stack.run("status", "--json")
        assert ran.status == 0
        status = ran.json
        assert (status["state"], status["url"], status["model"]) == ("ready", demo_stack.url, "demo")
        assert status["supervisor"] in ("process", "systemd")
        assert set(status["warm"]) >= {"state", "prefix_tokens", "source"}
        for name, port in (("server", demo_stack.server_port), ("proxy", demo_stack.proxy_port)):
            service = status["services"][name]
            assert set(service) >= {"state", "pid", "port", "uptime_s", "restarts"}
            assert (service["state"], service["port"], service["restarts"]) == ("running", port, 0)

    def test_a_second_up_changes_nothing_and_measures_again(self, demo_stack: Stack) -> None:
        before = pids(demo_stack)
        again = demo_stack.run("up", "--json")
        assert again.status == 0, again.err
        assert again.json["started"] == []
        health = again.json["health"]
        assert health["prefill_tps"] > 0 and health["decode_tps"] > 0
        assert health["hit_ratio"] > 0.9
        assert pids(demo_stack) == before

    def test_up_says_how_fast_how_warm_and_how_to_connect(self, demo_stack: Stack) -> None:
        shown = demo_stack.run("up").out
        for part in ("prefill cold", "prefill warm", "cached", "llmstack claude", demo_stack.url, "llmstack down"):
            assert part in shown

    def test_the_anthropic_sdk_streams_a_message(self, demo_stack: Stack) -> None:
        events: list[object] = []
        with client_of(demo_stack).messages.stream(
            model="demo", max_tokens=100, messages=[{"role": "user", "content": "hello"}]
        ) as stream:
            events += [event for event in stream if event.type != "text"]
            message = stream.get_final_message()
        assert message.stop_reason == "end_turn"
        [block] = message.content
        assert isinstance(block, TextBlock)
        assert block.text == SENTENCE
        assert message.usage.input_tokens > 0
        assert message.usage.output_tokens > 10

    def test_every_raw_event_is_one_of_the_sdk_s_own_types(self, demo_stack: Stack) -> None:
        accepted: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
        raw = client_of(demo_stack).messages.with_streaming_response.create(
            model="demo",
            max_tokens=300,
            messages=[{"role": "user", "content": "the weather?"}],
            tools=[WEATHER],
            tool_choice={"type": "any"},
            stream=True,
        )
        kinds = []
        with raw as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    event = accepted.validate_json(line[5:], strict=False)
                    kinds.append(event.type)
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") >= 1

    @pytest.mark.parametrize("choice", [{"type": "tool", "name": "get_weather"}, {"type": "any"}], ids=["tool", "any"])
    @pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])
    def test_a_forced_tool_call_arrives_with_arguments_of_its_schema(
        self, demo_stack: Stack, streaming: bool, choice: anthropic.types.ToolChoiceParam
    ) -> None:
        client = client_of(demo_stack)
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "the weather in Rome?"}]
        if streaming:
            with client.messages.stream(
                model="demo", max_tokens=400, messages=messages, tools=[WEATHER], tool_choice=choice
            ) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(
                model="demo", max_tokens=400, messages=messages, tools=[WEATHER], tool_choice=choice
            )
        assert message.stop_reason == "tool_use"
        [call] = [block for block in message.content if isinstance(block, ToolUseBlock)]
        assert call.name == "get_weather"
        assert isinstance(call.input, dict)
        assert isinstance(call.input["city"], str) and isinstance(call.input["days"], int)

    def test_a_tool_s_result_is_taken_and_answered(self, demo_stack: Stack) -> None:
        message = client_of(demo_stack).messages.create(
            model="demo",
            max_tokens=100,
            tools=[WEATHER],
            messages=[
                {"role": "user", "content": "the weather in Rome?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Rome", "days": 1}}
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
            ],
        )
        assert [block.text for block in message.content if isinstance(block, TextBlock)] == [SENTENCE]

    def test_the_models_list_names_what_is_deployed(self, demo_stack: Stack) -> None:
        assert "demo" in [model.id for model in client_of(demo_stack).models.list()]

    def test_no_token_no_answer(self, demo_stack: Stack) -> None:
        with pytest.raises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=demo_stack.url, api_key="wrong", max_retries=0).messages.create(
                model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
            )

    def test_secrets_are_private_files_and_in_no_argv(self, demo_stack: Stack) -> None:
        state = demo_stack.root / "state"
        secrets = [(state / name).read_text().strip() for name in ("token", "server.key")]
        for name in ("token", "server.key", "stack.json"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
        for process in demo_stack.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                words = " ".join(process.cmdline())
                assert not [secret for secret in secrets if secret in words]
        logs = demo_stack.run("logs", "-n", "10000").out
        assert not [secret for secret in secrets if secret in logs]

    def test_real_claude_code_gets_its_answer(self, demo_stack: Stack, claude_code: Path, tmp_path: Path) -> None:
        project = tmp_path / "project"
        project.mkdir()
        environment = {
            "PATH": f"{claude_code.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LLMSTACK_HOME": str(demo_stack.root),
            "IS_SANDBOX": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        ran = subprocess.run(
            [sys.executable, "-m", "llmstack", "claude", "--", "-p", "ping"],
            env=environment,
            cwd=project,
            capture_output=True,
            text=True,
            timeout=400,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert SENTENCE in ran.stdout

    def test_logs_hold_both_services_and_their_json_is_one_object(self, demo_stack: Stack) -> None:
        lines = demo_stack.run("logs", "-n", "5000", "--json").json["lines"]
        assert {line["service"] for line in lines} == {"server", "proxy"}
        assert any("listening" in line["text"] for line in lines if line["service"] == "server")
        only = demo_stack.run("logs", "proxy", "-n", "3", "--json").json["lines"]
        assert len(only) == 3 and {line["service"] for line in only} == {"proxy"}

    def test_following_logs_shows_the_next_request(self, demo_stack: Stack) -> None:
        command = [sys.executable, "-m", "llmstack", "logs", "-f", "-n", "0"]
        with subprocess.Popen(command, env=demo_stack.environment, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            time.sleep(1.0)
            client_of(demo_stack).messages.create(
                model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
            )
            first = following.stdout.readline()
            following.send_signal(signal.SIGINT)
            following.stdout.read()
        assert first.split()[1] in ("server", "proxy")
        assert following.returncode in (0, 4)

    def test_the_plan_of_a_path_follows_the_contract(self, demo_stack: Stack) -> None:
        [model] = (demo_stack.root / "data" / "models").glob("demo-*.gguf")
        plan = demo_stack.run("plan", str(model), "--json").json
        assert plan["feasible"] is True
        assert plan["argv"][0] == "-m"
        assert set(plan["model"]) >= {"name", "path", "arch", "size_bytes", "n_layer", "n_ctx_train"}
        assert set(plan["predicted"]) >= {"prefill_tps", "decode_tps", "ttft_cold_s", "ttft_warm_s", "prompt_tokens"}
        assert set(plan["memory"]["host"]) >= {"weights_mib", "context_mib", "compute_mib", "total_mib", "budget_mib"}
        for decision in plan["decisions"]:
            assert set(decision) >= {"flag", "value", "reason", "cost"}

    def test_bench_measures_by_the_contract(self, demo_stack: Stack) -> None:
        ran = demo_stack.run("bench", "--json", timeout_s=600)
        assert ran.status in (0, 1), ran.err
        result = json.loads(ran.out)
        for key in (
            "prefill_tps",
            "decode_tps",
            "ttft_cold_s",
            "ttft_warm_s",
            "cache_hit_ratio",
            "proxy_ttft_overhead_ms",
        ):
            assert isinstance(result[key], (int, float)), key
        assert result["prefill_tps"] > 0 and result["decode_tps"] > 0
        assert result["cache_hit_ratio"] > 0.9
        assert set(result) >= {"ttft_restart_s", "predicted", "verdict"}
        assert set(result["verdict"]) >= {"ok", "findings"}
        assert ran.status == (0 if result["verdict"]["ok"] else 1)


class TestAStackOfItsOwn:
    def test_down_leaves_no_process_and_no_open_port(self, stack_home: Stack) -> None:
        stack_home.up()
        assert is_open(stack_home.proxy_port) and is_open(stack_home.server_port)
        assert stack_home.run("down", "--json").json["was_running"] is True
        assert stack_home.processes() == []
        assert not is_open(stack_home.proxy_port) and not is_open(stack_home.server_port)
        status = stack_home.run("status", "--json")
        assert (status.status, status.json["state"]) == (1, "stopped")
        assert stack_home.run("down").status == 0

    def test_a_killed_engine_comes_back_and_the_next_request_works(self, stack_home: Stack) -> None:
        stack_home.up()
        server = pids(stack_home)["server"]
        os.kill(server, signal.SIGKILL)
        eventually(lambda: pids(stack_home)["server"] not in (None, server))
        eventually(lambda: stack_home.run("status", "--json").json["state"] == "ready")
        message = client_of(stack_home).messages.create(
            model="demo", max_tokens=100, messages=[{"role": "user", "content": "still there?"}]
        )
        assert message.stop_reason == "end_turn"
        service = stack_home.run("status", "--json").json["services"]["server"]
        assert service["restarts"] == 1

    @pytest.mark.parametrize("which", ["proxy", "server"])
    def test_a_taken_port_is_refused_by_its_owner_s_name_before_anything_starts(
        self, stack_home: Stack, which: str
    ) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", stack_home.proxy_port if which == "proxy" else stack_home.server_port))
            other.listen()
            ran = stack_home.run("up", "--demo", *stack_home.ports)
        assert ran.status == 3
        assert f"pid {os.getpid()}" in ran.err and psutil.Process().name() in ran.err
        assert "next:" in ran.err
        assert stack_home.processes() == []
        assert not (stack_home.root / "state" / "stack.json").exists()

    def test_the_stack_survives_the_terminal_that_started_it(self, stack_home: Stack) -> None:
        child, terminal = pty.fork()
        if child == 0:
            command = [sys.executable, "-m", "llmstack", "up", "--demo", *stack_home.ports]
            os.execve(sys.executable, command, stack_home.environment)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while os.read(terminal, 4096):
                pass
        os.waitpid(child, 0)
        os.close(terminal)
        time.sleep(0.5)
        assert stack_home.run("status", "--json").json["state"] == "ready"

    def test_a_model_that_cannot_load_leaves_the_old_stack_answering(self, stack_home: Stack, tmp_path: Path) -> None:
        stack_home.up()
        [demo] = (stack_home.root / "data" / "models").glob("demo-*.gguf")
        broken = tmp_path / "broken.gguf"
        # The header is whole and plausible; llama.cpp alone notices that a tensor it needs has another name.
        broken.write_bytes(demo.read_bytes().replace(b"output_norm.weight", b"output_nurm.weight"))
        ran = stack_home.run("up", str(broken))
        assert ran.status == 1, ran.err
        assert "died while it was starting" in ran.err
        eventually(lambda: stack_home.run("status", "--json").json["state"] == "ready")
        assert stack_home.run("status", "--json").json["model"] == "demo"
        message = client_of(stack_home).messages.create(
            model="demo", max_tokens=100, messages=[{"role": "user", "content": "still there?"}]
        )
        assert message.stop_reason == "end_turn"

    def test_in_the_foreground_it_shows_logs_and_takes_the_stack_down_when_told_to_stop(
        self, stack_home: Stack, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        command = [sys.executable, "-m", "llmstack", "up", "--demo", "--foreground", *stack_home.ports]
        with out.open("w") as stream:
            running = subprocess.Popen(command, env=stack_home.environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            eventually(lambda: "Stop it:" in out.read_text(), within_s=90)
            client_of(stack_home).messages.create(
                model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
            )
            eventually(lambda: "proxy" in out.read_text().partition("Stop it:")[2])
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=90) == 0
        assert stack_home.processes() == []
        assert not is_open(stack_home.proxy_port)

    def test_two_homes_run_side_by_side(self, stack_home: Stack, demo_stack: Stack) -> None:
        stack_home.up()
        assert stack_home.run("down").status == 0
        assert demo_stack.run("status", "--json").json["state"] == "ready"


def test_without_a_model_and_without_a_stack_up_says_what_to_do(stack_home: Stack) -> None:
    ran = stack_home.run("up")
    assert ran.status == 2
    assert "llmstack up --demo" in ran.err
    assert "Traceback" not in ran.err
