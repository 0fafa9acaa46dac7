"""A session of tool calls, as an agent has it; its client may send back what Claude Code would."""

from __future__ import annotations

from typing import Any

from support.talker import Answer, Talker

SHELL = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "type": "object",
        # one value each: whatever tokens the model spells a call with, all its calls say the same
        "properties": {
            "command": {"type": "string", "enum": ["cd /work && make"]},
            "timeout": {"type": "string", "enum": ["5000"]},
            "description": {"type": "string", "enum": ["builds it"]},
        },
        "required": ["command", "timeout", "description"],
    },
}


def rewritten(call: dict[str, Any]) -> dict[str, Any]:
    """As Claude Code does: the keys in another order, a number instead of its digits, no step into its own folder."""
    values = {key: call["input"][key].removeprefix("cd /work && ") for key in sorted(call["input"], reverse=True)}
    return {**call, "input": {key: int(value) if value.isdigit() else value for key, value in values.items()}}


class Session:
    """A conversation in which every answer calls the tool. rewrites: the client sends other inputs than it got."""

    def __init__(self, talker: Talker, *, rewrites: bool = True) -> None:
        self.talker = talker
        self.rewrites = rewrites
        self.turns: list[Any] = ["build it"]

    def turn(self) -> Answer:
        forced = {"type": "any", "disable_parallel_tool_use": True}
        answer = self.talker.ask(*self.turns, max_tokens=240, tools=[SHELL], tool_choice=forced)
        [call] = [block for block in answer.content if block["type"] == "tool_use"]
        sent = rewritten(call) if self.rewrites else call
        assert not self.rewrites or (list(sent["input"]) != list(call["input"]) and sent["input"] != call["input"])
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": f"done {len(self.turns)}"}
        said = [sent if block is call else block for block in answer.content]
        self.turns += [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
        return answer


def added(answer: Answer, before: Answer) -> int:
    """Tokens of the last answer and of what was said to it, as the server was sent them."""
    return answer.total - before.total
