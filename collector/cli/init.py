"""`collector init`: a configuration file to begin with."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from collector.cli import options
from collector.cli.command import Command
from shards.protocol.errors import ConfigError

_STDOUT: Final = "-"


@click.command(cls=Command)
@options.of_start(["network"])
@click.argument("file", default="collector.toml")
def init(*, network: str | None, file: str) -> None:
    """
    Write a commented configuration for a network to FILE; - is stdout.

    Everything is in it, with its default, and what is not needed is commented out. An existing
    file is left alone.
    """
    from collector.settings.config_template import template
    from collector.settings.start_options import StartOptions

    text = template(network or StartOptions().network)
    if file == _STDOUT:
        sys.stdout.write(text)
        return
    try:
        # Its endpoints may carry keys of providers.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise ConfigError(f"{file} exists: move it away, or name another file") from None
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    click.echo(f"{file} is written. Look whether all is well:  collector doctor --config {file}")
    click.echo(f"then collect:  collector start --config {Path(file)}")
