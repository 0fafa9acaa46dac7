"""What an error proposes is the command that helps, with the names that were typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack import commands, paths
from llmstack.cli.main import run
from llmstack.fetch import hub
from llmstack.paths import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LLMSTACK_HOME", str(tmp_path / "stack"))
    monkeypatch.setattr(commands, "_called", "")
    return paths.home().make()


def next_of(capsys: pytest.CaptureFixture[str], *words: str, status: int) -> str:
    assert run(list(words)) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(" next: ")]
    assert len(lines) == 1
    return lines[0].removeprefix(" next: ")


@pytest.mark.usefixtures("home")
class TestProfile:
    def test_an_upstream_without_a_model_is_given_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["upstream", "add", "vllm", "--no-key"]) == 0
        capsys.readouterr()
        said = next_of(capsys, "claude", "--profile", "vllm", status=2)
        assert said == "llmstack upstream add vllm --model NAME"

    def test_a_mistyped_one_is_answered_with_the_whole_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = next_of(capsys, "env", "--profile", "cerebra", status=2)
        assert said == "llmstack env --profile cerebras"
        said = next_of(capsys, "claude", "--profile=bedrok", "--", "-p", "two words", status=2)
        assert said == "llmstack claude --profile bedrock -- -p 'two words'"

    def test_a_missing_key_is_stored_by_the_command_for_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert next_of(capsys, "env", "--profile", "litellm", status=3) == "llmstack upstream add litellm"

    def test_a_key_file_of_no_upstream_is_written_by_a_line_that_quotes_it(
        self, home: Home, capsys: pytest.CaptureFixture[str]
    ) -> None:
        home.catalog.write_text(
            '[profiles.mine]\ngateway = "anthropic"\nbase_url = "http://127.0.0.1:9"\ntoken_file = "my keys/mine"\n'
        )
        said = next_of(capsys, "env", "--profile", "mine", status=3)
        assert f"cat > '{home.config}/my keys/mine'" in said


@pytest.mark.usefixtures("home")
class TestUpstream:
    def test_a_mistyped_one_is_answered_with_the_whole_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert next_of(capsys, "upstream", "test", "opnrouter", status=2) == "llmstack upstream test openrouter"

    def test_a_new_name_is_added(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert next_of(capsys, "upstream", "test", "xyzzy", status=2) == "llmstack upstream add xyzzy"

    def test_one_that_does_not_answer_is_started_or_given_its_address(
        self, home: Home, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(["upstream", "add", "far", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"])
        capsys.readouterr()
        assert run(["upstream", "test", "far"]) == 1
        shown = capsys.readouterr().out
        assert (
            "start it" in shown
            and "llmstack upstream add far --base-url URL" in shown
            and "correct base_url" not in shown
        )

    def test_the_route_that_was_added_is_explained(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(
            [
                "upstream",
                "add",
                "far",
                "--base-url",
                "http://127.0.0.1:9/v1",
                "--model",
                "m",
                "--route",
                "claude-opus-*",
            ]
        )
        shown = capsys.readouterr().out
        assert "claude-opus-* goes there" in shown and "/model" in shown


@pytest.mark.usefixtures("home")
def test_without_a_network_the_command_is_repeated_with_what_keeps_it_offline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = next_of(capsys, "plan", "OWNER/REPO:Q4", "--ctx", "4096", status=3)
    assert "LLMSTACK_OFFLINE=1 llmstack plan OWNER/REPO:Q4 --ctx 4096" in said
    monkeypatch.setenv("LLMSTACK_OFFLINE", "1")
    assert hub.offline()


@pytest.mark.usefixtures("home")
def test_a_token_that_is_missing_is_made_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert next_of(capsys, "token", status=2) == "llmstack up --proxy-only"
