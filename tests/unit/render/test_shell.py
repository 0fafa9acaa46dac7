"""Quoting, and the functions as text; real shells run them in tests/system/clients/test_shells.py."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.client.shell_change import ShellChange
from llmstack.render.shell import Functions, assignments, functions, quote_fish, quote_powershell


def test_each_shell_s_assignment() -> None:
    odd = {"A": "it's $HOME `x` \\"}
    change = [ShellChange({"C": "B"}, ("B",), odd)]
    assert assignments(change, "sh") == f'export C="$B"\nunset B\nexport A={shlex.quote(odd["A"])}'
    assert assignments(change, "fish") == "set -gx C \"$B\"\nset -e B\nset -gx A 'it\\'s $HOME `x` \\\\'"
    assert (
        assignments(change, "powershell")
        == "$env:C = $env:B\nRemove-Item Env:B -ErrorAction SilentlyContinue\n$env:A = 'it''s $HOME `x` \\'"
    )


@given(st.text(max_size=20))
def test_quoted_text_is_one_word_again(text: str) -> None:
    inner = quote_fish(text)[1:-1]
    assert inner.replace("\\'", "'").replace("\\\\", "\\").count("'") == text.count("'")
    unquoted = quote_powershell(text)[1:-1]
    for quote in "'\u2018\u2019\u201a\u201b":
        unquoted = unquoted.replace(quote * 2, quote)
    assert unquoted == text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_functions_set_no_variable_of_claude_code_and_hold_no_secret(shell: str) -> None:
    wanted = Functions("cc", "ccq", "local", ("/opt/a b/llmstack",), "/home/it's", ("ANTHROPIC_BASE_URL",))
    text = functions(wanted, shell)
    assert "ANTHROPIC_AUTH_TOKEN" not in text and "export ANTHROPIC" not in text and "sk-" not in text
    assert "/opt/a b/llmstack" in text and "--profile" in text
