"""`llmstack mcp`: the stack's model as a tool, for the SDK's own client and for the real Claude Code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from llmstack.demo import SENTENCE
from support.claude_code import Claude
from support.claude_turns import call, conversation, results, turn
from support.proxy_stand import ProxyStand
from support.stack import Stack
from support.upstream import Upstream, say


def server(stack: Stack, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmstack", "mcp", *arguments]


def client(stack: Stack, *arguments: str) -> Client:
    program, *rest = server(stack, *arguments)
    return Client(stdio_client(StdioServerParameters(command=program, args=rest, env=stack.environment)))


@pytest.mark.timeout(300)
async def test_the_sdk_asks_the_model_about_files_and_only_below_the_folder(demo_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    async with client(demo_stack, "--root", str(tmp_path)) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        assert set(tools) == {"ask_local_model", "describe_local_model"}
        assert set(tools["ask_local_model"].input_schema["properties"]) == {"prompt", "files", "max_tokens", "think"}
        about = await agent.call_tool("describe_local_model", {})
        assert about.structured_content is not None and about.structured_content["context_tokens"] > 10_000
        answer = await agent.call_tool("ask_local_model", {"prompt": "what is it?", "files": ["a.txt"]})
        assert not answer.is_error and answer.content[0].text.strip() == SENTENCE.strip()
        refused = await agent.call_tool("ask_local_model", {"prompt": "and?", "files": ["/etc/hostname"]})
        assert refused.is_error and "is not below" in refused.content[0].text


async def test_without_a_stack_the_tool_says_what_to_do(stack_home: Stack) -> None:
    async with client(stack_home, "--no-start") as agent:
        answer = await agent.call_tool("ask_local_model", {"prompt": "hello"})
    assert answer.is_error and "next:" in answer.content[0].text and " up" in answer.content[0].text


def test_claude_code_hands_a_question_over(
    demo_stack: Stack, stand: ProxyStand, upstream: Upstream, claude_code: Path, tmp_path: Path
) -> None:
    claude = Claude(claude_code, tmp_path / "home", tmp_path / "work")
    command, *arguments = server(demo_stack)
    entry = {"command": command, "args": arguments, "env": demo_stack.environment}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"local": entry}}))
    upstream.script = conversation(
        turn(call("mcp__local__ask_local_model", json.dumps({"prompt": "hello"}))),
        lambda asked: say("it said: " + results(asked)[-1]),
    )
    done = claude.run(stand, "ask the other one", "--mcp-config", str(config), "--strict-mcp-config")
    assert done.status == 0 and "The demo model answers" in done.out, done.out + done.err


def test_typed_on_a_terminal_it_says_how_an_agent_starts_it(demo_stack: Stack) -> None:
    controller, terminal = os.openpty()
    done = subprocess.run(
        server(demo_stack), env=demo_stack.environment, stdin=terminal, capture_output=True, text=True, timeout=60
    )
    os.close(controller)
    os.close(terminal)
    assert done.returncode == 2 and "claude mcp add" in done.stderr
