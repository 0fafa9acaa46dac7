"""Groups of commands: a word that people know from elsewhere does what they mean; a mistyped one is answered with the
command that was meant."""

from __future__ import annotations

from collections.abc import Sequence

import click

from llmstack.commands import ALIASES, quoted

# Other words for what a group can do: the first that it has. None for what deletes, except to the command that asks.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "ls": ("list",), "download": ("pull",), "get": ("pull",), "rm": ("remove", "revoke"),
    "delete": ("remove", "revoke"), "remove": ("revoke",), "info": ("show",), "search": ("find",), "check": ("test",),
    "choose": ("use",), "select": ("use",), "new": ("add",), "create": ("add",), "renew": ("rotate",),
}  # fmt: skip


class CommandGroup(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        meant = next((other for other in _SYNONYMS.get(word, ()) if self.get_command(ctx, other) is not None), None)
        if self.get_command(ctx, word) is None and meant is not None:
            args = [meant, *args[1:]]
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand:
            # Asked again with every name: click itself knows only commands that are loaded.
            raise click.exceptions.NoSuchCommand(word, possibilities=self.list_commands(ctx), ctx=ctx) from None


def without_aliases(argv: Sequence[str]) -> list[str]:
    """A command line with the first word as this program calls it (`start` is `up`); `help X` asks for X's help."""
    if not argv:
        return []
    first, *rest = argv
    if first == "help":
        return [*rest, "--help"]
    return [*ALIASES.get(first, (first,)), *rest]


def correction(error: click.exceptions.NoSuchCommand, argv: Sequence[str]) -> str:
    """The command line with the likeliest command in place of the one that does not exist; empty where none is near."""
    if not error.possibilities or error.ctx is None:
        return ""
    behind = list(argv)[list(argv).index(error.command_name) + 1 :] if error.command_name in argv else []
    return " ".join([error.ctx.command_path, error.possibilities[0], *(quoted(word) for word in behind)])
