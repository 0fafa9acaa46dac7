"""What a model is shown of a tool, judged by its prompts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from llmstack.engine.tool_sight import ToolSight, judge

Body = dict[str, Any]


def prompts(render: Callable[[Body], str | None]) -> Callable[[Sequence[Body]], list[str | None]]:
    return lambda bodies: [render(body) for body in bodies]


def everything(body: Body) -> str:
    return json.dumps(body)


def test_a_prompt_with_the_tool_and_its_result_is_complete() -> None:
    sight = judge(prompts(everything))
    assert sight == ToolSight(True, True) and sight.complete and sight.sentence("m") == ""


def test_the_same_prompt_with_and_without_a_tool_shows_none() -> None:
    sight = judge(prompts(lambda body: json.dumps(body["messages"])))
    assert sight == ToolSight(False, True)
    assert "m is shown no tools" in sight.sentence("m")


def test_another_prompt_that_does_not_name_the_tool_shows_none() -> None:
    assert judge(prompts(lambda body: "tools are there" if "tools" in body else "none")) == ToolSight(False, False)


def test_a_result_that_is_left_out_is_told() -> None:
    sight = judge(prompts(lambda body: json.dumps(body.get("tools")) + str(len(body["messages"]))))
    assert sight == ToolSight(True, False)
    assert "not shown what its tools return" in sight.sentence("m")


def test_a_template_that_takes_arguments_only_as_an_object_is_complete() -> None:
    def strict(body: Body) -> str | None:
        calls = [call for message in body["messages"] for call in message.get("tool_calls", ())]
        as_text = any(isinstance(call["function"]["arguments"], str) for call in calls)
        return None if as_text else json.dumps(body)

    assert judge(prompts(strict)) == ToolSight(True, True)


def test_a_template_that_refuses_tools_shows_none() -> None:
    assert judge(prompts(lambda body: None if "tools" in body else "hi")) == ToolSight(False, False)


def test_nothing_is_judged_where_nothing_can_be_rendered() -> None:
    assert judge(prompts(lambda body: None)) is None
