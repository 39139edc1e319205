"""`collector dashboard`: the web page of a running collector."""

import logging
from pathlib import Path

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from collector.settings import installed
from collector.settings.parts import DEFAULT_WEB
from shards.protocol.errors import ConfigError


@click.command(cls=Command)
@options.connect(several=True)
@options.option(
    "--listen",
    metavar="HOST:PORT",
    type=value_types.Address(least=0),
    default=DEFAULT_WEB,
    show_default=True,
    help="Address of the page, without HOST on loopback; port 0: any free port.",
)
@options.option(
    "--allow-remote",
    is_flag=True,
    help="Allow --listen addresses that other machines can reach. There is no password.",
)
@options.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Host name under which browsers may request the page, besides localhost and addresses; "
    "may be repeated.",
)
@options.option(
    "--authorized-keys",
    metavar="FILE",
    help="Ask for a token of one of these keys ('collector keys authorize'); changes apply while it "
    "runs.  [default: no token is asked for]",
)
@options.option(
    "--tls-cert",
    metavar="FILE",
    help="Certificate chain, PEM; reloaded when it changes.  [default: no TLS]",
)
@options.option("--tls-key", metavar="FILE", help="Its private key, PEM.  [default: no TLS]")
def dashboard(
    *,
    connect: str,
    listen: str,
    allow_remote: bool,
    hosts: tuple[str, ...],
    authorized_keys: str | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """
    Serve a web page that shows a running collector live.

    Markets by state and activity, latency, frames, processes, gaps and restarts over time, and a
    page for each market with its book. With several endpoints, separated by commas, the cells are shown
    beside each other; the rest of the page is of the first one that answers. It only reads from the collector and can be stopped freely.
    """
    try:
        from collector.web.process import run
    except ModuleNotFoundError as error:
        raise ConfigError(installed.missing("web", f"{error.name} is")) from None
    from collector.access import authorized_file, tls
    from collector.settings.parts import TlsConfig

    if authorized_keys:
        authorized_file.read(Path(authorized_keys))
    if tls_cert or tls_key:
        tls.check(tls_cert or "", tls_key or "")
    told = TlsConfig(
        certificate=tls_cert or "", key=tls_key or "", authorized=authorized_keys or ""
    )
    logging.basicConfig(level="INFO", format="%(asctime)s dashboard %(levelname)s %(message)s")
    run(connect, listen, allow_remote=allow_remote, hosts=hosts, tls=told)
