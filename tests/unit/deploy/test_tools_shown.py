"""A record that says what the model is shown: told, and refused for a client that works by tools."""

from __future__ import annotations

import pytest

from llmstack.deploy.tools_shown import missing, refuse_blind
from llmstack.errors import NotSo
from llmstack.stackfile import ModelEntry, ServerEntry, StackRecord


def record(**capabilities: bool) -> StackRecord:
    return StackRecord(ModelEntry("qwen", "/q.gguf"), ServerEntry("127.0.0.1", 1), capabilities=capabilities)


@pytest.mark.parametrize("capabilities", [{}, {"vision": True}, {"tools": True}, {"tools": True, "tool_results": True}])
def test_a_model_that_sees_tools_or_was_never_asked_is_not_refused(capabilities: dict[str, bool]) -> None:
    assert missing(record(**capabilities)) == ""
    refuse_blind(record(**capabilities))


@pytest.mark.parametrize(
    ("capabilities", "what"),
    [
        ({"tools": False, "tool_results": True}, "qwen is shown no tools"),
        ({"tools": True, "tool_results": False}, "qwen is not shown what its tools return"),
    ],
)
def test_a_model_that_is_shown_too_little_is_refused_with_the_way_out(capabilities: dict[str, bool], what: str) -> None:
    with pytest.raises(NotSo, match=what) as refused:
        refuse_blind(record(**capabilities))
    assert all(word in refused.value.next for word in ("models list", "chat-template-file", "--without-tools"))
