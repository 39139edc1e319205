"""
The program `collector`: one file a command, each of which parses, calls one thing and prints.

Data goes to stdout, everything else to stderr. A command's file is loaded when that command is
asked for, and what is heavy when it runs, so that ``--help`` stays cheap. What commands have in
common is in `base` and `options`.
"""

import click

from collector import __version__
from collector.cli import pid_one
from collector.cli.base import Group
from shards.runtime import streams


@click.group(
    cls=Group,
    lazy={
        "start": ("start", "Collect: split the markets over shards, publish their frames."),
        "status": ("status", "Say how a running collector stands."),
        "top": ("top", "Watch a running collector on a terminal screen."),
        "dashboard": ("dashboard", "Serve a web page that shows a running collector live."),
        "tail": ("tail", "Print what a running collector publishes."),
        "record": ("record", "Record what it publishes into Parquet files."),
        "backfill": ("backfill", "Fetch past blocks into an archive."),
        "replay": ("replay", "Publish an archive again, as if it were live."),
        "archive": ("archive", "Look at an archive: coverage, sql."),
        "markets": ("markets", "List the markets of a network or a collector."),
        "capabilities": ("capabilities", "Say which source gives which channel."),
        "add": ("admin", "Have a running collector collect more markets."),
        "remove": ("admin", "Have a running collector let markets go."),
        "scale": ("admin", "Have a running collector use so many shards."),
        "rebalance": ("admin", "Have it move markets until loads are equal."),
        "drain": ("admin", "Have it empty a shard, and end that."),
        "init": ("init", "Write a commented configuration file."),
        "completion": ("completion", "Print what completes commands in your shell."),
        "doctor": ("doctor", "Look whether this machine and network are fit to collect."),
        "health": ("health", "Probe a running collector, for whatever keeps it alive."),
        "keys": ("keys", "Make keys, and say who may read and who may steer."),
        "verify": ("verify", "Check a running collector against the chain."),
        "devnet": ("devnet", "Run a real Injective node on loopback, with trading."),
    },
)
@click.version_option(__version__, package_name="injective-collector")
def cli() -> None:
    """
    Collect market data from the Injective exchange, completely.

    Every trade and every order-book change of every block, once, in order. Every option has an
    environment twin: --shards of start is COLLECTOR_START_SHARDS.
    """


def main() -> None:
    """Be the command ``collector``."""
    pid_one.be_init()
    streams.prepare()
    cli(prog_name="collector")
