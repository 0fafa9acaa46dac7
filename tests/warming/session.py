"""A session of tool calls, as an agent has it; its client may send back what Claude Code would."""

from __future__ import annotations

from typing import Any

from warming.talk import Answer, Talker

SHELL = {
    "name": "Bash",
    "description": "Runs a command.",
    "input_schema": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["make", "make check"]},
            "timeout": {"type": "string", "enum": ["5000", "60000"]},
            "description": {"type": "string", "enum": ["builds it", "checks it"]},
        },
        "required": ["command", "timeout", "description"],
    },
}


def rewritten(call: dict[str, Any]) -> dict[str, Any]:
    """As Claude Code does: the keys in another order, a number instead of its digits."""
    keys = sorted(call["input"], reverse=True)
    return {**call, "input": {k: int(v) if (v := call["input"][k]).isdigit() else v for k in keys}}


class Session:
    """A conversation in which every answer calls the tool. rewrites: the client sends other inputs than it got."""

    def __init__(self, talker: Talker, *, rewrites: bool = True) -> None:
        self.talker = talker
        self.rewrites = rewrites
        self.turns: list[Any] = ["build it"]

    def turn(self) -> Answer:
        forced = {"type": "any", "disable_parallel_tool_use": True}
        answer = self.talker.ask(*self.turns, max_tokens=120, tools=[SHELL], tool_choice=forced)
        [call] = [block for block in answer.content if block["type"] == "tool_use"]
        sent = rewritten(call) if self.rewrites else call
        assert not self.rewrites or (list(sent["input"]) != list(call["input"]) and sent["input"] != call["input"])
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": f"done {len(self.turns)}"}
        said = [sent if block is call else block for block in answer.content]
        self.turns += [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
        return answer


def new_tokens(answer: Answer, before: Answer) -> int:
    """Of the prompt: what neither the last prompt nor the last answer held."""
    return answer.total - before.total - before.output
