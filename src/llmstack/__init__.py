"""Your own AI coding stack: plan, run and prove llama-server for Claude Code."""

__version__ = "0.1.0"
