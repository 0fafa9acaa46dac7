"""`llmstack launch` without an agent, and without a start. With each of them: test_agent_loops.py."""

from __future__ import annotations

import json

from support.stack import Stack


def test_the_list_says_which_are_installed_and_how_to_get_the_others(stack: Stack) -> None:
    listed = json.loads(stack.run("launch", "--json").out)["agents"]
    assert {"codex", "opencode", "qwen"} <= {agent["name"] for agent in listed}
    assert all(agent["install"] and agent["tried"] for agent in listed)
    shown = stack.run("launch", "codex", "--dry-run", "--", "exec", "hi")
    assert "(the token)" in shown.out and stack.token not in shown.out and "exec hi" in shown.out
