"""
The program and its voice: one form for errors, one rule for exit codes.

An error is one sentence on stderr, ``collector COMMAND: SENTENCE``. Exit code 2: what was typed
(or is in the environment) is no command, no option, or no such value. Exit code 3: it was
understood, but cannot be done. Little is loaded here, since `collector --help` loads it too.
"""

import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

import click

from shards.protocol.errors import EXIT_CONFIG, EXIT_OK, EXIT_USAGE

_INTERRUPTED: Final = 130
"""Ctrl-C, by the shells' convention."""
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Voice:
    """Runs a command to its exit code; says in one sentence what was wrong."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Be the program."""
        run = cast(Callable[..., Any], super().main)  # type: ignore[misc]
        if not standalone_mode:
            return run(*arguments, standalone_mode=False, **settings)
        try:
            # click returns an exit code that help and the like ended with.
            code = run(*arguments, standalone_mode=False, **settings)
            sys.stdout.flush()
        except click.UsageError as error:
            fail(error.ctx, _usage(error), EXIT_USAGE)
        except click.ClickException as error:
            fail(None, error.format_message(), EXIT_CONFIG)
        except click.Abort:
            sys.exit(_INTERRUPTED)
        except OSError as error:
            unwritable(None, error)
        sys.exit(code if isinstance(code, int) else EXIT_OK)


class Group(Voice, click.Group):
    """
    The program: commands by name, each loaded when it is asked for.

    ``lazy`` names the module of each in this package, and says in a few words what it does.
    """

    def __init__(
        self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **settings: Any
    ) -> None:
        settings["context_settings"] = CONTEXT | (settings.get("context_settings") or {})
        super().__init__(*arguments, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, the one that all is about first."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None if there is none of that name."""
        return self.load(cmd_name) if cmd_name in self._lazy else None

    def load(self, name: str) -> click.Command:
        """Load a command that there is."""
        module = importlib.import_module(f"collector.cli.{self._lazy[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def all_commands(self) -> list[click.Command]:
        """Load them all, those of groups among them too."""
        found: list[click.Command] = []
        for name in self._lazy:
            command = self.load(name)
            found += command.all_commands() if isinstance(command, Group) else [command]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what there is, without loading any of it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in self._lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that is none is said with the one that was meant."""
        from collector.settings.wording import did_you_mean

        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(
                f"there is no command {name!r}{did_you_mean(name, self._lazy) or _more(ctx)}",
                ctx,
            )
        return super().resolve_command(ctx, args)


def fail(ctx: click.Context | None, sentence: str, code: int) -> NoReturn:
    """Say in one sentence what was wrong, and exit."""
    ctx = ctx or click.get_current_context(silent=True)
    click.echo(f"{ctx.command_path if ctx else 'collector'}: {sentence}", err=True)
    sys.exit(code)


def unwritable(ctx: click.Context | None, error: OSError) -> NoReturn:
    """Say that stdout takes nothing more; raise the error again if it is about something else."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF) or error.filename:
        raise error
    # Nothing may be flushed there at exit either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        # Who read this has gone (`| head`).
        sys.exit(EXIT_OK)
    fail(ctx, f"cannot write to stdout: {error.strerror}", EXIT_CONFIG)


def _more(ctx: click.Context | None) -> str:
    return f" ('{ctx.command_path} --help' lists what there is)" if ctx else ""


def _usage(error: click.UsageError) -> str:
    """Say what was wrong with what was typed."""
    from collector.cli.options import origin
    from collector.settings.wording import did_you_mean

    if isinstance(error, click.NoSuchOption):
        meant = did_you_mean(error.option_name, error.possibilities or _flags(error.ctx))
        return f"there is no option {error.option_name}{meant or _more(error.ctx)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.human_readable_name} is missing{_more(error.ctx)}"
    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx:
        return f"{origin(error.ctx, error.param)} {error.message.rstrip('.')}"
    if isinstance(error, click.BadOptionUsage):
        return _lowered(error.message)
    return _lowered(error.format_message())


def _flags(ctx: click.Context | None) -> list[str]:
    return [name for parameter in ctx.command.params for name in parameter.opts] if ctx else []


def _lowered(text: str) -> str:
    """Make a sentence of click's the end of ours."""
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
