"""Where the summary goes at the end: checked before anything runs, never lost after it ran."""

import contextlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from collector.client.summary import Summary
from shards.protocol.errors import ConfigError

_STDOUT: Final = "-"


def check(target: str, option: str = "--summary") -> None:
    """
    Find out now, not after a day of collecting, that the summary cannot be written.

    Raises:
        ConfigError: If it cannot.

    """
    try:
        if target == _STDOUT:
            _takes_a_byte(sys.stdout.fileno())
        else:
            _open(Path(target))
    except OSError as error:
        raise ConfigError(f"{option} {target} cannot be written: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{option} {target}: stdout is closed") from None


def _open(path: Path) -> None:
    """Open it as it will be opened in the end; what was not there before is not there after."""
    is_new = not path.exists()
    with path.open("ab") as file:
        _takes_a_byte(file.fileno())
    if is_new:
        path.unlink()


def _takes_a_byte(descriptor: int) -> None:
    """Write a line end, which JSON may begin with, where that tells: a full device takes none."""
    if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        os.write(descriptor, b"\n")


def write(target: str, summary: Summary, option: str = "--summary") -> None:
    """
    Write the summary.

    Raises:
        ConfigError: If it cannot be written there; it is on stderr then.

    """
    text = json.dumps(msgspec.to_builtins(summary), indent=2)
    try:
        if target == _STDOUT:
            click.echo(text)
            sys.stdout.flush()
        else:
            Path(target).write_text(f"{text}\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            click.echo(text, err=True)
        if target == _STDOUT:
            # What is still in its buffer cannot be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfigError(
            f"{option} {target} cannot be written: {error.strerror}; the summary is above"
        ) from None
