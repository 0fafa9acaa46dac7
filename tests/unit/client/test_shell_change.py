"""A shell is led somewhere and given back what it had; another profile in between leaves nothing of the first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmstack.client.environment import OURS, ClientEnvironment
from llmstack.client.shell_change import led, taken_back

NAMES = st.sampled_from(["ANTHROPIC_API_KEY", "ANTHROPIC_MODEL", "NO_PROXY", "AWS_REGION", "PATH", "MY_OWN"])
SHELLS = st.dictionaries(NAMES, st.text(max_size=5))
PROFILES = st.builds(ClientEnvironment, st.dictionaries(NAMES, st.text(max_size=5)), st.lists(NAMES).map(tuple))


@given(SHELLS, st.lists(PROFILES, min_size=1, max_size=4))
def test_after_any_profiles_it_is_what_it_was(before: dict[str, str], profiles: list[ClientEnvironment]) -> None:
    shell = before
    for environment in profiles:
        shell = taken_back(shell).over(shell) if "LLMSTACK_CHANGED" in shell else shell
        shell = led(environment, shell).over(shell)
        assert all(shell[name] == value for name, value in environment.variables.items())
    assert taken_back(shell).over(shell) == before


def test_no_value_of_the_user_s_is_in_what_is_printed() -> None:
    shell = {"ANTHROPIC_API_KEY": "secret"}
    change = led(ClientEnvironment({"A": "1"}, ("ANTHROPIC_API_KEY",)), shell)
    assert "secret" not in str(change) + str(taken_back(change.over(shell)))


def test_a_shell_that_says_nothing_loses_all_that_could_be_ours() -> None:
    assert set(taken_back({}).removed) == set(OURS)
