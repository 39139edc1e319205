"""`collector dashboard`: the web page of a running collector."""

import logging
import sys
from typing import NoReturn

import click

from collector.settings.parts import DEFAULT_PUBLISH, DEFAULT_WEB
from shards.protocol.errors import EXIT_CONFIG, ConfigError


@click.command()
@click.option(
    "--connect",
    metavar="ENDPOINT",
    default=DEFAULT_PUBLISH,
    show_default=True,
    help="The collector's publish endpoint.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=DEFAULT_WEB,
    show_default=True,
    help="Where the page is served; port 0 is any free one.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Allow --listen at an address that other machines can reach. There is no password.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers may ask for the page, besides localhost and addresses; "
    "may be repeated.",
)
def dashboard(*, connect: str, listen: str, allow_remote: bool, hosts: tuple[str, ...]) -> None:
    """
    Serve a web page that shows a running collector live.

    Markets by state and activity, latency, frames, processes, gaps and restarts over time, and
    a page for each market with its book. It only listens to the collector and may come and go.
    """
    logging.basicConfig(level="INFO", format="%(asctime)s dashboard %(levelname)s %(message)s")
    try:
        from collector.web.process import run
    except ModuleNotFoundError as error:
        _fail(missing(error))
    try:
        run(connect, listen, allow_remote=allow_remote, hosts=hosts)
    except ConfigError as error:
        _fail(str(error))


def missing(error: ModuleNotFoundError) -> str:
    """Say which extra brings a module that is not installed."""
    return f"{error.name} is not installed: pip install 'injective-collector[web]'"


def _fail(text: str) -> NoReturn:
    click.echo(f"collector dashboard: {text}", err=True)
    sys.exit(EXIT_CONFIG)
