"""Every command: where it is, and what the top help says of it. Data, so that texts can name commands too."""

from __future__ import annotations

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
    "env": ("env", "Print the environment that points a client at the stack."),
    "shell-init": ("shell_init", "Print the shell functions `cc` (official) and `ccq` (this stack)."),
    "claude-settings": ("claude_settings", "Write this stack into a Claude Code settings file, or take it out."),
    "upstream": ("upstream", "Add, test and list other places that answer: clouds, gateways, servers."),
    "token": ("token", "Print the token that clients send."),
    "warm": ("warm", "Read a client's long prompt now, so that its first message is answered at once."),
    "cache": ("cache", "List or remove saved prompts."),
    "models": ("models", "List, pull, verify and remove models."),
    "engine": ("engine", "List, install and choose llama.cpp engines."),
    "uninstall": ("uninstall", "Stop the stack and remove all of it."),
    "serve-proxy": ("serve_proxy", ""),
}
