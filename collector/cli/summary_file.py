"""Where the final summary goes: checked at the start, so that it is never lost at the end."""

import contextlib
import errno
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
    Check at the start, not after a day of collecting, that the summary can be written.

    Raises:
        ConfigError: If it cannot.

    """
    try:
        if target == _STDOUT:
            _takes_a_byte(sys.stdout.fileno())
        else:
            _open(Path(target))
    except OSError as error:
        raise ConfigError(f"{option} {target} cannot be written: {_reason(error)}") from None
    except ValueError:
        raise ConfigError(f"{option} {target}: stdout is closed") from None


def _open(path: Path) -> None:
    """Open the file as at the end; a file that did not exist before is removed again."""
    is_new = not path.exists()
    with open(path, "ab", opener=_at_once) as file:
        _takes_a_byte(file.fileno())
    if is_new:
        path.unlink()


def _at_once(path: str, flags: int) -> int:
    """Open a file to write it; a pipe that nobody reads is an error, and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _reason(error: OSError) -> str:
    return "nobody reads this pipe" if error.errno == errno.ENXIO else str(error.strerror)


def _takes_a_byte(descriptor: int) -> None:
    """Write a line end, which JSON may start with: a full device refuses it."""
    if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
        os.write(descriptor, b"\n")


def write(target: str, summary: Summary, option: str = "--summary") -> None:
    """
    Write the summary.

    Raises:
        ConfigError: If it cannot be written; it was then printed to stderr.

    """
    text = json.dumps(msgspec.to_builtins(summary), indent=2)
    try:
        if target == _STDOUT:
            click.echo(text)
            sys.stdout.flush()
        else:
            with open(target, "w", opener=_at_once) as file:
                file.write(f"{text}\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            click.echo(text, err=True)
        if target == _STDOUT:
            # What is still in its buffer could not be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfigError(
            f"{option} {target} cannot be written: {_reason(error)}; the summary is above"
        ) from None
