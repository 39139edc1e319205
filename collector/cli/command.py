"""A command: its options have environment twins, and errors are one sentence."""

import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from collector.cli import environment
from collector.cli.base import CONTEXT, Group, Voice, fail, unwritable
from collector.cli.options import Option
from shards.protocol.errors import ConfigError
from shards.runtime import groups
from shards.runtime.exit_codes import EXIT_CONFIG


class Command(Voice, click.Command):
    """A command whose options have environment twins."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings["context_settings"] = CONTEXT | (settings.get("context_settings") or {})
        super().__init__(*arguments, **settings)

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments; errors are attributed to this command."""
        try:
            return super().make_context(info_name, args, parent=parent, **extra)
        except click.UsageError as error:
            if error.ctx is None:
                error.ctx = click.Context(self, info_name=info_name, parent=parent)
            raise
        except ConfigError as error:
            # A file that an option names cannot be used.
            context = click.Context(self, info_name=info_name, parent=parent)
            fail(context, str(error), EXIT_CONFIG)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a configuration error becomes one sentence."""
        if environment.unknown(os.environ, twins([self])):
            # It may be another command's variable: only now import them all to check.
            group = ctx.find_root().command
            commands = group.all_commands() if isinstance(group, Group) else [self]
            if said := environment.unknown(os.environ, twins(commands)):
                raise click.UsageError(said, ctx)
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except ConfigError as error:
            fail(ctx, str(error), EXIT_CONFIG)
        except OSError as error:
            unwritable(ctx, error)
        except BaseExceptionGroup as group:
            for leaf in groups.leaves(group):
                if isinstance(leaf, OSError) and leaf.filename:
                    unwritable(ctx, leaf)
            raise
        return found


def twins(commands: Iterable[click.Command]) -> list[str]:
    """Return the names of all environment twins."""
    return [
        twin
        for command in commands
        for parameter in command.params
        if isinstance(parameter, Option)
        for twin in parameter.twins(command.name or "")
    ]
