"""A template that nobody has looked at is rendered in a process with bounds, and says whether tools are shown."""

from __future__ import annotations

import pytest

from llmstack.demo.template import CHAT_TEMPLATE
from llmstack.engine.tool_sight import ToolSight, of_header, of_text
from llmstack.gguf import GgufHeader

PLAIN = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
OWN = "{% generation %}{{ tools | tojson(indent=2) }}{% endgeneration %}" + PLAIN


def header(**templates: str) -> GgufHeader:
    values = {key.replace("__", "."): value for key, value in templates.items()}
    return GgufHeader(3, {f"tokenizer.{key}": value for key, value in values.items()}, {}, (), 32, 0, 0, "")


def test_a_template_with_tools_is_told_from_one_without() -> None:
    assert of_text(CHAT_TEMPLATE) == ToolSight(True, True)
    assert of_text(PLAIN) == ToolSight(False, True)


def test_marks_for_training_and_an_indent_are_known() -> None:
    assert of_text(OWN) == ToolSight(True, True)


def test_the_variant_for_tools_counts_as_it_does_for_llama_cpp() -> None:
    assert of_header(header(chat_template=PLAIN, chat_template__tool_use=CHAT_TEMPLATE)) == ToolSight(True, True)
    assert of_header(header(chat_template=PLAIN)) == ToolSight(False, True)
    assert of_header(header()) is None


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch /tmp/llmstack-was-here') }}",
        "{% include '/etc/passwd' %}",
        "{% if %}",
        "{{ raise_exception('never') }}",
    ],
)
def test_a_hostile_or_broken_template_ends_within_its_bounds_and_says_nothing(template: str) -> None:
    assert of_text(template, patience_s=30.0) is None


def test_one_that_sleeps_past_the_patience_is_ended() -> None:
    assert (
        of_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", patience_s=0.3)
        is None
    )
