"""`shell-init` and `env` in real shells. A `claude` that writes down its arguments and environment stands for the
real one, so that every byte of them can be looked at."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from support.programs import installed, run
from support.stack import Stack

LLMSTACK = [sys.executable, "-m", "llmstack"]
OURS = ["--settings", '{"permissions": {"disableAutoMode": "disable"}}']  # before what was given, on a stack
ARGUMENTS = ["-p", "two words", "", "it's", 'a "quote"', "$HOME", "`id`", "a\\b", "*", "é\nline", "-v", "--debug", "--"]
RECORDER = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["RECORD"], "a") as out:
    out.write(json.dumps({{"args": sys.argv[1:], "env": dict(os.environ)}}) + "\\n")
sys.exit(int(os.environ.get("EXIT", "0")))
"""
PARSER = ("tree-sitter==0.26.1", "tree-sitter-powershell==0.26.4")


class Shell:
    def __init__(self, name: str, program: str, stack: Stack, folder: Path) -> None:
        self.name, self.program, self.stack, self.folder = name, program, stack, folder
        self.record = folder / "record"
        (folder / "bin").mkdir()
        claude = folder / "bin" / "claude"
        claude.write_text(RECORDER)
        claude.chmod(0o755)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        whole = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LLMSTACK_HOME": str(self.stack.root),
            "RECORD": str(self.record),
            **environment,
        }
        options = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config"]}[self.name]
        return subprocess.run(
            [self.program, *options, "-c", script],
            env=whole, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def init(self, *options: str) -> str:
        made = self.stack.run("shell-init", self.name, *options)
        assert made.status == 0, made.err
        file = self.folder / "init"
        file.write_text(made.out)
        return f"source {file}" if self.name == "fish" else f'eval "$(cat {file})"'

    def quote(self, text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'") if self.name == "fish" else text.replace("'", "'\\''")
        return f"'{escaped}'"

    @property
    def status(self) -> str:
        return "$status" if self.name == "fish" else "$?"

    def called(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, shells: dict[str, str], stack: Stack, tmp_path: Path) -> Shell:
    return Shell(request.param, shells[request.param], stack, tmp_path)


def call(shell: Shell, function: str) -> str:
    return " ".join([function, *(shell.quote(argument) for argument in ARGUMENTS)])


@pytest.mark.parametrize("function", ["cc", "ccq"])
def test_every_argument_arrives_as_it_was_given(shell: Shell, function: str) -> None:
    ran = shell.run(f"{shell.init()}\n{call(shell, function)}")
    assert ran.returncode == 0, ran.stderr
    assert [entry["args"] for entry in shell.called()] == [[*OURS, *ARGUMENTS] if function == "ccq" else ARGUMENTS]


def test_ccq_leads_to_the_stack_and_cc_to_nowhere(shell: Shell) -> None:
    shell.run(f"{shell.init('--profile', 'cerebras')}\nccq\ncc")
    stacked, official = (entry["env"] for entry in shell.called())
    assert isinstance(stacked, dict) and isinstance(official, dict)
    assert stacked["ANTHROPIC_BASE_URL"] == shell.stack.url
    assert stacked["ANTHROPIC_SMALL_FAST_MODEL"] == "cerebras/qwen-3-coder-480b"
    assert "127.0.0.1" in stacked["NO_PROXY"]
    assert not [name for name in official if name.startswith(("ANTHROPIC", "CLAUDE_CODE"))]


@pytest.mark.parametrize("function", ["cc", "ccq"])
def test_the_exit_status_is_passed_on(shell: Shell, function: str) -> None:
    ran = shell.run(f"{shell.init()}\n{function} x; echo status={shell.status}", EXIT="7")
    assert "status=7" in ran.stdout


def test_the_environment_is_what_it_was_afterwards_even_after_a_failure(shell: Shell) -> None:
    show = "env | grep -v -e '^_=' -e '^SHLVL=' | sort"
    script = f"{shell.init()}\n{show} > before\nccq x\ncc x\n{show} > after"
    shell.run(script, EXIT="3", ANTHROPIC_MODEL="my own", NO_PROXY="corp")
    assert (shell.folder / "after").read_text() == (shell.folder / "before").read_text() != ""
    mine = shell.called()[1]["env"]
    assert isinstance(mine, dict) and mine["ANTHROPIC_MODEL"] == "my own"  # cc leaves the user's own settings alone


def test_cc_is_official_in_a_shell_that_was_led_to_the_stack(shell: Shell) -> None:
    led = shell.stack.run("env", "--shell", shell.name).out
    (shell.folder / "env").write_text(led)
    shell.run(f"source {shell.folder / 'env'}\n{shell.init()}\ncc\nclaude plain")
    official, plain = (entry["env"] for entry in shell.called())
    assert isinstance(official, dict) and isinstance(plain, dict)
    assert plain["ANTHROPIC_BASE_URL"] == shell.stack.url and "ANTHROPIC_BASE_URL" not in official


def test_env_is_taken_back_by_off(shell: Shell) -> None:
    for name, options in (("on", ()), ("off", ("--off",))):
        (shell.folder / name).write_text(shell.stack.run("env", "--shell", shell.name, *options).out)
    shell.run(f"source {shell.folder / 'on'}\nsource {shell.folder / 'off'}\nclaude x")
    seen = shell.called()[0]["env"]
    assert isinstance(seen, dict) and not [n for n in seen if n.startswith(("ANTHROPIC", "CLAUDE_CODE"))]


def test_off_gives_a_shell_back_what_it_had(shell: Shell) -> None:
    """The environment is asked in the shell itself, as it is printed: one profile, another one, and back."""
    (shell.stack.root / "config" / "models.toml").write_text(
        '[profiles.far]\ngateway = "bedrock"\nregion = "us-east-1"\nskip_auth = true\nenv = { MY_OWN = "theirs" }\n'
    )
    program = shlex.join([*LLMSTACK, "env", "--shell", shell.name])
    evaluate = {"fish": "{} | source"}.get(shell.name, 'eval "$({})"')
    show = "env | grep -v -e '^_=' -e '^SHLVL=' | sort"
    lead = [evaluate.format(f"{program} {options}".strip()) for options in ("", "--profile far", "--profile far")]
    script = "\n".join(
        [f"{show} > before", *lead, f"{show} > led", evaluate.format(f"{program} --off"), f"{show} > after"]
    )
    mine = {"ANTHROPIC_API_KEY": 'it\'s "mine" $x', "NO_PROXY": "corp", "AWS_REGION": "eu-west-1", "MY_OWN": ""}
    ran = shell.run(script, **mine)
    assert ran.returncode == 0, ran.stderr
    (shell.stack.root / "config" / "models.toml").unlink()
    texts = {name: (shell.folder / name).read_text() for name in ("before", "led", "after")}
    assert "AWS_REGION=us-east-1" in texts["led"] and "\nANTHROPIC_API_KEY=" not in texts["led"]
    assert texts["after"] == texts["before"] != ""


def test_an_alias_of_the_same_name_is_no_obstacle(shell: Shell) -> None:
    ran = shell.run(f"alias cc='echo wrong'\nalias ccq='echo wrong'\n{shell.init()}\ncc a\nccq b")
    assert "wrong" not in ran.stdout and [entry["args"] for entry in shell.called()] == [["a"], [*OURS, "b"]], (
        ran.stderr
    )


def test_the_functions_can_have_other_names(shell: Shell) -> None:
    shell.run(
        f"{shell.init('--official', 'claude-official', '--stack', 'claude-local')}\nclaude-official a\nclaude-local b"
    )
    assert [entry["args"] for entry in shell.called()] == [["a"], [*OURS, "b"]]


def test_a_name_that_would_be_code_is_refused(stack: Stack) -> None:
    assert stack.run("shell-init", "bash", "--stack", "x; rm -rf ~").status == 2


@pytest.fixture(scope="session")
def powershell_errors() -> str:
    """A Python with a PowerShell parser: PowerShell itself is in no registry this machine can reach."""

    def make(folder: Path) -> None:
        venv.create(folder, with_pip=True)
        run([folder / "bin" / "python", "-m", "pip", "install", "-q", *PARSER])

    return str(installed("-".join(["powershell", *PARSER]), make) / "bin" / "python")


_PARSE = """
import json, sys, tree_sitter, tree_sitter_powershell
language = tree_sitter.Language(tree_sitter_powershell.language())
tree = tree_sitter.Parser(language).parse(sys.stdin.buffer.read())
found, names, stack = [], [], [tree.root_node]
while stack:
    node = stack.pop()
    if node.is_error or node.is_missing:
        found.append([node.start_point[0], node.text.decode()])
    if node.type == "function_name":
        names.append(node.text.decode())
    stack += node.children
print(json.dumps({"errors": found, "names": sorted(names)}))
"""


def parsed(python: str, text: str) -> dict[str, list[object]]:
    done = subprocess.run([python, "-c", _PARSE], input=text, capture_output=True, text=True, timeout=60, check=True)
    value: dict[str, list[object]] = json.loads(done.stdout)
    return value


def test_powershell_s_functions_are_valid_by_a_parser_of_it(stack: Stack, powershell_errors: str) -> None:
    text = stack.run("shell-init", "powershell", "--stack", "cc-quick").out
    assert parsed(powershell_errors, text) == {"errors": [], "names": ["global:cc", "global:cc-quick"]}
    assert "try {" in text and "finally {" in text  # the environment is put back whatever happens
    assert "param" not in text  # -v and -d belong to claude
    for options in ((), ("--off",)):
        assignments = stack.run("env", "--shell", "powershell", *options).out
        assert assignments and parsed(powershell_errors, assignments)["errors"] == []
    assert parsed(powershell_errors, "function x { try { ")["errors"]
