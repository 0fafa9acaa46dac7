"""Our own small supervisor, for machines without a systemd user manager: containers, WSL1, no session bus."""

from llmstack.process.supervisor import ProcessSupervisor

__all__ = ["ProcessSupervisor"]
