"""`collector top`: a running collector on one terminal screen."""

import importlib.util
import sys

import click

from collector.cli import options
from collector.cli.command import Command
from collector.settings import installed
from shards.protocol.errors import ConfigError


@click.command(cls=Command)
@options.connect(several=True)
@options.market("Show only these: ticker, symbol, a glob of either, or market id; may be repeated.")
def top(*, connect: str, markets: tuple[str, ...]) -> None:
    """
    Watch a running collector: markets, shards, events, books.

    With several endpoints, separated by commas, it shows a line for each cell; c shows the next one
    in detail. A market's page takes the first copy of each fact, whichever cell sends it.

    Needs a terminal of at least 80 by 24 characters, and the extra "tui". While the collector
    does not answer, it says so and keeps trying. Press ? for the keys, q to quit.
    """
    if importlib.util.find_spec("textual") is None:
        raise ConfigError(installed.missing("tui", "the extra 'tui' is"))
    # Textual draws on stderr.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("this is not a terminal: in a pipe use 'collector status'")
    from collector.tui.running import run

    run(connect, markets)
