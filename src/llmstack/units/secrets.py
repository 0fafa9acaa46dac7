"""What the server's sandbox hides: the one process that parses hostile files needs none of a person's keys."""

from __future__ import annotations

from collections.abc import Iterable

# Below the user's home. Files rather than folders where models may lie beside them.
OF_A_PERSON = (
    ".ssh", ".gnupg", ".password-store", ".local/share/keyrings", ".pki", ".netrc", ".git-credentials",
    ".aws", ".azure", ".config/gcloud", ".kube", ".oci", ".terraform.d", ".config/doctl", ".config/hcloud", ".boto",
    ".docker/config.json", ".config/containers/auth.json", ".config/gh", ".config/glab-cli", ".config/rclone",
    ".npmrc", ".pypirc", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml", ".pgpass", ".my.cnf",
    ".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".config/hf", ".huggingface",
    ".claude", ".claude.json", ".codex", ".gemini", ".config/anthropic", ".config/openai", ".config/github-copilot",
    ".mozilla", ".thunderbird", ".config/google-chrome", ".config/chromium", ".config/BraveSoftware",
    ".bash_history", ".zsh_history", ".local/share/fish/fish_history", ".python_history",
)  # fmt: skip


def hidden_paths(person: str, own: Iterable[str], needed: Iterable[str]) -> tuple[str, ...]:
    """own: secrets of this stack that the server never reads. needed: texts of its command and environment; a path
    that leads to one of them stays open, as a model that lies beside a key."""
    texts = tuple(needed)
    paths = [*own, *(f"{person.rstrip('/')}/{name}" for name in OF_A_PERSON)]
    return tuple(path for path in paths if path.startswith("/") and not _leads_to(path, texts))


def _leads_to(path: str, texts: Iterable[str]) -> bool:
    return any(f"{path}/" in f"{text}/" for text in texts)
