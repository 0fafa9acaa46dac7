"""Claude Code and other clients: the environment that points them at this stack."""
