"""
The program's errors and exit codes: one form, one rule.

An error is one sentence on stderr, ``collector COMMAND: SENTENCE``. Exit code 2: a command, option
or value (typed or in the environment) does not exist. Exit code 3: the input was understood but
cannot be carried out. Few imports here, because `collector --help` needs this module.
"""

import errno
import importlib
import os
import select
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

import click

from collector.cli.interrupts import killed_by_ctrl_c
from shards.runtime.exit_codes import EXIT_CONFIG, EXIT_OK, EXIT_USAGE

_INTERRUPTED: Final = 130
"""Ctrl-C, by the shells' convention."""
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


_REFUSALS: Final = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ELOOP", "ENAMETOOLONG",
        "ENOTDIR", "EISDIR", "EEXIST", "ESTALE", "EMFILE", "ENFILE",
    )
)  # fmt: skip
"""Why a system refuses a file; not ENOENT, which may be our own mistake."""


class Voice:
    """Runs a command and turns errors into one sentence and an exit code."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run the program."""
        run = cast(Callable[..., Any], super().main)  # type: ignore[misc]
        if not standalone_mode:
            return run(*arguments, standalone_mode=False, **settings)
        try:
            # click returns the exit code when help or a similar option ended the command.
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
    The program: commands by name, each imported on demand.

    ``lazy`` gives each command's module in this package and a short description.
    """

    def __init__(
        self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **settings: Any
    ) -> None:
        settings["context_settings"] = CONTEXT | (settings.get("context_settings") or {})
        super().__init__(*arguments, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, the most important first."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if the name is unknown."""
        return self.load(cmd_name) if cmd_name in self._lazy else None

    def load(self, name: str) -> click.Command:
        """Import a known command."""
        with killed_by_ctrl_c():
            module = importlib.import_module(f"collector.cli.{self._lazy[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def all_commands(self) -> list[click.Command]:
        """Import all commands, including those of groups."""
        found: list[click.Command] = []
        for name in self._lazy:
            command = self.load(name)
            found += command.all_commands() if isinstance(command, Group) else [command]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in self._lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the closest name for an unknown one."""
        from collector.settings.wording import did_you_mean

        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(
                f"there is no command {name!r}{did_you_mean(name, self._lazy) or _more(ctx)}",
                ctx,
            )
        return super().resolve_command(ctx, args)


def fail(ctx: click.Context | None, sentence: str, code: int) -> NoReturn:
    """Print one sentence about the error, and exit."""
    ctx = ctx or click.get_current_context(silent=True)
    click.echo(f"{ctx.command_path if ctx else 'collector'}: {sentence}", err=True)
    sys.exit(code)


def unwritable(ctx: click.Context | None, error: OSError) -> NoReturn:
    """Report what the system refuses: a file, or stdout; re-raise other errors."""
    if error.filename and error.errno in _REFUSALS:
        fail(ctx, f"{os.fsdecode(error.filename)}: {error.strerror}", EXIT_CONFIG)
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF) or error.filename:
        raise error
    # Nothing may be flushed there at exit either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        # The reader has exited (`| head`).
        sys.exit(EXIT_OK)
    fail(ctx, f"cannot write to stdout: {error.strerror}", EXIT_CONFIG)


def must_be_read() -> None:
    """
    Check that a program which prints nothing at the moment has a reader.

    Raises:
        BrokenPipeError: If stdout is a pipe, and its reader has exited: nothing would ever be read.

    """
    waiting = select.poll()
    try:
        waiting.register(sys.stdout, 0)
    except ValueError:
        # It is no file of the system.
        return
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in waiting.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def takes_colours() -> bool:
    """Return whether the user's terminal is to have colours; click leaves them out of files itself."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _more(ctx: click.Context | None) -> str:
    return f" ('{ctx.command_path} --help' lists what there is)" if ctx else ""


def _usage(error: click.UsageError) -> str:
    """Return a sentence about a usage error."""
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
    """Turn a sentence of click's into the second part of ours."""
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
