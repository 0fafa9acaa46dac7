"""The command group. Commands load when they run, so `--help` is quick; errors end here, each with its exit status."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from llmstack import __version__
from llmstack.cli.group import CommandGroup, correction, without_aliases
from llmstack.commands import COMMANDS, called_as, command_line, program, quoted, typed
from llmstack.disk_errors import DISK, of_disk
from llmstack.errors import Interrupted, StackError

READ_BY_SHELLS = ("env", "shell-init", "token")  # a letter that cannot be written is an error there, not another one
ENVIRONMENT_NOTE = "Everything lives below LLMSTACK_HOME when it is set, else in the user's XDG folders."


class _LazyGroup(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (_, line) in COMMANDS.items() if line]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"llmstack.cli.{entry[0]}")
        loaded: click.Command = module.command
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items() if line])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=ENVIRONMENT_NOTE,
)
@click.version_option(__version__, prog_name="llmstack")
def group() -> None:
    """Your own AI coding stack: llama-server planned for this machine, and a proxy that Claude Code can use."""


def run(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status (0 good, 1 not so, 2 usage, 3 environment, 4 interrupted)."""
    argv, as_json = without_aliases(argv), "--json" in argv
    called_as(_spelled(os.environ.pop("LLMSTACK_COMMAND", ""), sys.argv[0]))
    typed(argv)
    for stream in () if argv[:1] and argv[0] in READ_BY_SHELLS else (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without an arrow shows a question mark in its place
    try:
        result = group.main(argv, prog_name=program(), standalone_mode=False)
    except StackError as error:
        return _fail(error, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message)  # who types a group's name alone asks what is in it
        return 0
    except click.UsageError as error:
        return _usage(error, argv, as_json)
    except click.ClickException as error:
        return _fail(StackError(error.format_message()), as_json)
    except (click.Abort, KeyboardInterrupt):
        return _fail(Interrupted("interrupted"), as_json)
    except BrokenPipeError:
        sys.stderr.close()  # the reader left (| head): nothing more to say to it
        return 0
    except OSError as error:
        if error.errno not in DISK:
            return _unexpected(error, as_json)
        from llmstack.paths import home

        return _fail(of_disk(error, home().state), as_json)
    except Exception as error:
        return _unexpected(error, as_json)
    return result if isinstance(result, int) else 0


def _spelled(launcher: str, script: str) -> str:
    """How this program was called, as a shell takes it; empty when nobody typed a name of it (`python -m llmstack`).

    launcher: what `./stack` says of itself, or a wrapper in more than one word. It is taken out of the environment:
    the services and Claude Code, started from here, are not what was called. script: sys.argv[0]. The console script
    is named as it is found by PATH, or by its path.
    """
    if launcher:
        return quoted(launcher) if shutil.which(launcher) else launcher
    file = shutil.which(script)
    if file is None or Path(file).name != "llmstack":
        return ""
    by_name = shutil.which("llmstack")
    return "llmstack" if by_name and Path(by_name).absolute() == Path(file).absolute() else quoted(script)


def _fail(error: StackError, as_json: bool) -> int:
    from llmstack.render.output import show_error

    show_error(error, as_json=as_json)
    return error.exit_status


def _usage(error: click.UsageError, argv: Sequence[str], as_json: bool) -> int:
    from llmstack.errors import BadInput

    path = error.ctx.command_path if error.ctx else program()
    better = correction(error, argv) if isinstance(error, click.exceptions.NoSuchCommand) else ""
    return _fail(BadInput(error.format_message(), next=better or f"{path} --help"), as_json)


def _unexpected(error: Exception, as_json: bool) -> int:
    """A bug of ours: the traceback goes to a file, the person gets a sentence."""
    import traceback

    from llmstack.paths import home, write_private

    where = "it could not be written down either"
    try:
        file = home().state / "crash.txt"
        write_private(file, "".join(traceback.format_exception(error)).encode())
        where = f"the details are in {file}"
    except OSError:
        pass
    return _fail(
        StackError(f"llmstack itself failed: {type(error).__name__}: {error}", why=where, next=command_line("doctor")),
        as_json,
    )
