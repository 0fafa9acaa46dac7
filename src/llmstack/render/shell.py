"""Text that a shell evaluates: assignments, and the two functions. Each shell's own quoting has one owner here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmstack.client.environment import MARK
from llmstack.client.shell_change import ShellChange


def quote_fish(text: str) -> str:
    """fish: inside single quotes only a backslash and a single quote are special."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quote_powershell(text: str) -> str:
    """PowerShell: a single-quoted string is verbatim; a doubled quote is one, and it takes curly ones for straight."""
    escaped = text
    for quote in "'\u2018\u2019\u201a\u201b":
        escaped = escaped.replace(quote, quote * 2)
    return f"'{escaped}'"


@dataclass(frozen=True, slots=True)
class _Shell:
    set: Callable[[str, str], str]
    copy: Callable[[str, str], str]
    unset: Callable[[str], str]


_SH = _Shell(
    lambda name, value: f"export {name}={shlex.quote(value)}",
    lambda name, source: f'export {name}="${source}"',
    lambda name: f"unset {name}",
)
_SHELLS = {
    "sh": _SH,
    "bash": _SH,
    "zsh": _SH,
    "fish": _Shell(
        lambda name, value: f"set -gx {name} {quote_fish(value)}",
        lambda name, source: f'set -gx {name} "${source}"',
        lambda name: f"set -e {name}",
    ),
    "powershell": _Shell(
        lambda name, value: f"$env:{name} = {quote_powershell(value)}",
        lambda name, source: f"$env:{name} = $env:{source}",
        lambda name: f"Remove-Item Env:{name} -ErrorAction SilentlyContinue",
    ),
}


def assignments(changes: Sequence[ShellChange], shell: str) -> str:
    writer = _SHELLS[shell]
    lines = []
    for change in changes:
        lines += [writer.copy(name, source) for name, source in change.copied.items()]
        lines += [writer.unset(name) for name in change.removed]
        lines += [writer.set(name, value) for name, value in change.variables.items()]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Functions:
    """The pair of functions. program: how to call llmstack. home: LLMSTACK_HOME, when it is set now.

    removed: what the official one must not inherit from a shell that evaluated `llmstack env`.
    """

    official: str
    stack: str
    profile: str
    program: tuple[str, ...]
    home: str | None
    removed: tuple[str, ...]


def functions(pair: Functions, shell: str) -> str:
    return {"bash": _posix, "zsh": _posix, "fish": _fish, "powershell": _powershell}[shell](pair)


def _about(pair: Functions) -> str:
    return (
        f"# {pair.official}: the official Claude Code. {pair.stack}: Claude Code on llmstack.\n"
        "# Neither changes the environment of this shell."
    )


def _posix(pair: Functions) -> str:
    """bash and zsh. `function NAME {` keeps an alias of that name from being put in its place."""
    call = [*(("env", f"LLMSTACK_HOME={pair.home}") if pair.home else ()), *pair.program]
    return f"""\
{_about(pair)}
unalias {pair.official} {pair.stack} 2>/dev/null || true
function {pair.official} {{
    if [ -n "${{{MARK}-}}" ]; then
        (
            unset {" ".join(pair.removed)}
            command claude "$@"
        )
    else
        command claude "$@"
    fi
}}
function {pair.stack} {{
    command {shlex.join(call)} claude --profile {shlex.quote(pair.profile)} -- "$@"
}}"""


def _fish(pair: Functions) -> str:
    call = [*(("env", f"LLMSTACK_HOME={pair.home}") if pair.home else ()), *pair.program]
    removed = " ".join(f"-u {name}" for name in pair.removed)
    return f"""\
{_about(pair)}
function {pair.official} --description 'Claude Code, official'
    if set -q {MARK}
        command env {removed} claude $argv
    else
        command claude $argv
    end
end
function {pair.stack} --description 'Claude Code on llmstack'
    command {" ".join(quote_fish(part) for part in call)} claude --profile {quote_fish(pair.profile)} -- $argv
end"""


def _powershell(pair: Functions) -> str:
    """No param block: with one, PowerShell would take -v, -d and their kin for itself."""
    removed = ", ".join(quote_powershell(name) for name in pair.removed)
    program, *first = pair.program
    call = " ".join(["&", *(quote_powershell(part) for part in (program, *first))])
    call += f" claude --profile {quote_powershell(pair.profile)} '--' @args"
    if pair.home:
        call = f"""$before = $env:LLMSTACK_HOME
    $env:LLMSTACK_HOME = {quote_powershell(pair.home)}
    try {{
        {call}
    }} finally {{
        $env:LLMSTACK_HOME = $before
    }}"""
    return f"""\
{_about(pair)}
Remove-Item Alias:{pair.official} -Force -ErrorAction SilentlyContinue
Remove-Item Alias:{pair.stack} -Force -ErrorAction SilentlyContinue
function global:{pair.official} {{
    $before = @{{}}
    try {{
        if ($env:{MARK}) {{
            foreach ($name in @({removed})) {{
                $before[$name] = [Environment]::GetEnvironmentVariable($name)
                [Environment]::SetEnvironmentVariable($name, $null)
            }}
        }}
        & (Get-Command claude -CommandType @('Application', 'ExternalScript') | Select-Object -First 1) @args
    }} finally {{
        foreach ($name in $before.Keys) {{
            [Environment]::SetEnvironmentVariable($name, $before[$name])
        }}
    }}
}}
function global:{pair.stack} {{
    {call}
}}"""
