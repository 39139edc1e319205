"""`collector top`: the command."""

import importlib.util
import sys

import click

from collector.settings.parts import DEFAULT_PUBLISH
from shards.protocol.errors import EXIT_CONFIG


@click.command("top")
@click.option(
    "--connect",
    default=DEFAULT_PUBLISH,
    show_default=True,
    metavar="ENDPOINT",
    help="The collector's publish endpoint.",
)
@click.option(
    "--market",
    "markets",
    multiple=True,
    metavar="PATTERN",
    help="Show only these: ticker, symbol, a glob of either, or market id; may be repeated.  "
    "[default: all]",
)
def top(connect: str, markets: tuple[str, ...]) -> None:
    """
    Watch a running collector: markets, shards, events, books.

    Needs a terminal of 80 by 24 characters or more, and the extra "tui". While nobody answers it
    says so and goes on asking. Press ? for the keys, q to quit.
    """
    if importlib.util.find_spec("textual") is None:
        raise _Failure("the extra 'tui' is not installed: pip install 'injective-collector[tui]'")
    # Textual draws on stderr.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise _Failure("this is not a terminal: in a pipe 'collector status' says how things stand")
    from collector.tui.running import run

    try:
        run(connect, markets)
    except ValueError as error:
        raise _Failure(f"--connect {error}") from None


class _Failure(click.ClickException):
    """One sentence for the person at the terminal."""

    exit_code = EXIT_CONFIG
