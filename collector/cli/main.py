"""
The program `collector`: one file per command, which parses, calls one function and prints.

Data goes to stdout, everything else to stderr. A command's module is imported when that command
runs, and heavy libraries later still, so that ``--help`` is fast. Shared parts are in `base` and
`options`.
"""

import os

import click

from collector import __version__
from collector.cli import pid_one
from collector.cli.base import Group
from shards.runtime import streams


@click.group(
    cls=Group,
    lazy={
        "start": ("start", "Collect: distribute markets over shards, publish frames."),
        "status": ("status", "Show the state of a running collector."),
        "top": ("top", "Watch a running collector in the terminal."),
        "dashboard": ("dashboard", "Serve a live web page of a running collector."),
        "tail": ("tail", "Print what a running collector publishes."),
        "record": ("record", "Record what it publishes into Parquet files."),
        "backfill": ("backfill", "Fetch past blocks into an archive."),
        "relay": ("relay", "Publish once more what cells publish, for many readers."),
        "cluster": ("cluster", "Run cells on many hosts: up, status, scale, down."),
        "replay": ("replay", "Publish an archive again, as if it were live."),
        "archive": ("archive", "Show, query, tidy an archive: coverage, sql, compact, prune."),
        "markets": ("markets", "List the markets of a network or a collector."),
        "capabilities": ("capabilities", "Show which source gives which channel."),
        "add": ("admin", "Add markets to a running collector."),
        "remove": ("admin", "Remove markets from a running collector."),
        "scale": ("admin", "Change a running collector's number of shards."),
        "rebalance": ("admin", "Move markets until the shards' loads are equal."),
        "drain": ("admin", "Move a shard's markets to the others, and stop it."),
        "init": ("init", "Write a commented configuration file."),
        "completion": ("completion", "Print the completion script for your shell."),
        "doctor": ("doctor", "Check whether this machine and network are fit to collect."),
        "health": ("health", "Probe a running collector, for container health checks."),
        "keys": ("keys", "Create keys, and list who may read and who may steer."),
        "verify": ("verify", "Check a running collector against the chain."),
        "devnet": ("devnet", "Run a real Injective node on loopback, with trading."),
    },
)
@click.version_option(__version__, package_name="injective-collector")
def cli() -> None:
    """
    Collect market data from the Injective exchange, completely.

    Every trade and every order-book change of every block, once, in order. Every option can
    also be set by an environment variable: start --shards is COLLECTOR_START_SHARDS.
    """


def main() -> None:
    """Run the command ``collector``."""
    # gRPC's handlers crash one in twenty processes that are forked while calls are made. They serve
    # forks that go on with the same calls; ours begin before any call, or run another program.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    pid_one.be_init()
    streams.prepare()
    cli(prog_name="collector")
