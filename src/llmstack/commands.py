"""Every command: where it is, what the top help says of it, and how a sentence spells it.

A sentence takes a command from `command_line` at the moment it is spoken: f"run {command_line('up', '--demo')}". So it
can be copied as it stands, by those who installed `llmstack` and by those who call `./stack`. Nothing looks for
commands in finished text: what a program reads (shell functions, units, settings, argv) is never respelled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# name: (module below llmstack.cli, its line in the top help). An empty line keeps the command out of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("plan", "Say what fits, how fast it will be, and why, before anything starts."),
    "up": ("up", "Plan, start, check and warm the stack."),
    "down": ("down", "Stop the stack."),
    "restart": ("restart", "Restart the stack, or one of its services."),
    "status": ("status", "Show what runs, on which model, and how warm it is."),
    "logs": ("logs", "Show the logs of the server and the proxy."),
    "bench": ("bench", "Measure prefill, decode, first-token time and the prompt cache."),
    "tune": ("tune", "Find faster flags by measuring, and keep them."),
    "doctor": ("doctor", "Check this machine and this stack, each finding with its remedy."),
    "claude": ("claude", "Run Claude Code on the stack."),
    "launch": ("launch", "Run another agent on the stack: Codex, OpenCode, Qwen Code, …"),
    "mcp": ("mcp", "Offer the stack's model to another agent as a tool."),
    "env": ("env", "Print the environment that points a client at the stack."),
    "shell-init": ("shell_init", "Print the shell functions `cc` (official) and `ccq` (this stack)."),
    "claude-settings": ("claude_settings", "Write this stack into a Claude Code settings file, or take it out."),
    "upstream": ("upstream", "Add, test and list other places that answer: clouds, gateways, servers."),
    "web-search": ("web_search", "Let the proxy answer web searches, by a back end of yours."),
    "key": ("key", "Give others a key of their own, list, rotate and revoke them."),
    "token": ("token", "Print the token that clients send."),
    "warm": ("warm", "Read a client's long prompt now, so that its first message is answered at once."),
    "cache": ("cache", "List or remove saved prompts."),
    "models": ("models", "List, pull, verify and remove models."),
    "catalog": ("catalog", "Fetch a newer list of known models, and go back."),
    "engine": ("engine", "List, install and choose llama.cpp engines."),
    "uninstall": ("uninstall", "Stop the stack and remove all of it."),
    "serve-proxy": ("serve_proxy", ""),
}

# What people type who know another program: the words of this one.
ALIASES: dict[str, tuple[str, ...]] = {
    "start": ("up",),
    "stop": ("down",),
    "ps": ("status",),
    "list": ("models", "list"),
    "ls": ("models", "list"),
    "pull": ("models", "pull"),
    "show": ("models", "show"),
    "rm": ("models", "remove"),
    "keys": ("key",),
    "run": ("up",),
    "serve": ("up",),
    "install": ("engine", "install"),
    "version": ("--version",),
}

_called = ""
_typed: tuple[str, ...] = ()
_spelled: dict[str, None] = {}
_MOST_SPELLED = 1000


def called_as(program: str) -> None:
    """Said once, by the entry of the command line. program: as a user types it in a shell, quoted where needed."""
    global _called
    _called = program


def program() -> str:
    """How this program is called in a shell."""
    return _called or "llmstack"


def is_called_by_name() -> bool:
    """Whether `called_as` has said how; otherwise `program` is only the usual name."""
    return bool(_called)


def command_line(*words: object) -> str:
    """One command of this program, as its user would type it: `command_line("up", path)`. Words that a shell would read
    otherwise are quoted; placeholders (`MODEL`, `…`) are not."""
    command = " ".join([program(), *(quoted(str(word)) for word in words)])
    if len(_spelled) < _MOST_SPELLED:  # a service goes on for weeks, and shows nothing on a terminal
        _spelled[command] = None
    return command


def spelled() -> Collection[str]:
    """The commands that sentences were given so far: a line that is broken must not break one of them."""
    return _spelled.keys()


def typed(argv: Sequence[str]) -> None:
    """Said once, by the entry of the command line: the words behind the program's name."""
    global _typed
    _typed = tuple(argv)


def typed_words() -> tuple[str, ...]:
    return _typed


def repeated() -> str:
    """The command that was typed, as it was typed."""
    return command_line(*_typed)


def again(command: str | None, *options: object) -> str:
    """The command that was typed, once more, with these options (`"--port", 5001`) in place of what it said of them.

    command: which one it must be; where another was typed (`claude` starts a stack too), that command alone. None: any.
    """
    words = list(_typed) if command is None or _typed[:1] == (command,) else [command]
    names = [str(option) for option in options if str(option).startswith("--")]
    rest: list[str] = []
    while words:
        word = words.pop(0)
        if word in names:
            words[:1] = []
        elif word == "--":  # what follows is another program's
            return command_line(*rest, *options, word, *words)
        elif word.partition("=")[0] not in names:
            rest.append(word)
    return command_line(*rest, *options)


# What a POSIX shell takes as it is. Letters of any alphabet are; so is `~` in the middle of a word.
_PLAIN = r"[\w@%+=:,./…-][\w@%+=:,./…~-]*"  # compiled when the first word is quoted


def quoted(word: str) -> str:
    """A word for a POSIX shell, in quotes only where it needs them."""
    return word if re.fullmatch(_PLAIN, word) else "'" + word.replace("'", "'\"'\"'") + "'"
