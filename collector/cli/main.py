"""
The commands. Each parses, calls one thing and prints; heavy imports are inside.

Data goes to stdout, everything else to stderr. Exit codes: 0 fine, 1 bug, 2 usage,
3 configuration, 4 below what was demanded.
"""

import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

import click

from collector import __version__
from collector.cli.record import record
from collector.cli.tail import tail
from collector.devnet.command import devnet
from collector.markets.activity import LEVELS
from collector.settings.parts import DEFAULT_PUBLISH, DEFAULT_WEB
from collector.tui.command import top
from collector.verify.command import verify
from collector.web.command import dashboard
from shards.adapters import registry
from shards.protocol import channels
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from shards.runtime import logs

_TYPES: Final = ("spot", "derivative", "binary")


@click.group(context_settings={"auto_envvar_prefix": "COLLECTOR", "max_content_width": 100})
@click.version_option(__version__, package_name="injective-collector")
def cli() -> None:
    """
    Collect market data from the Injective exchange, completely.

    Every trade and every order-book change of every block, once, in order. Every option has an
    environment twin: --shards of start is COLLECTOR_START_SHARDS.
    """


cli.add_command(tail)
cli.add_command(record)
cli.add_command(dashboard)
cli.add_command(devnet)
cli.add_command(verify)
cli.add_command(top)


def _network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which network and which markets of it."""
    for option in (
        click.option(
            "--network",
            metavar="NAME",
            default="local",
            show_default=True,
            help="mainnet, testnet: the public endpoints; local: a node of yours with the usual "
            "ports; devnet: one is started for you; or one that --config describes.",
        ),
        click.option(
            "--config",
            type=click.Path(dir_okay=False),
            help="TOML file: endpoints of a network, limits, markets (docs/operations.md).",
        ),
        click.option(
            "--market",
            "markets",
            multiple=True,
            metavar="PATTERN",
            help="Ticker, symbol, a glob of either, or market id; may be repeated.  [default: all]",
        ),
        click.option(
            "--type",
            "types",
            multiple=True,
            type=click.Choice(_TYPES),
            help="Only markets of this type; may be repeated.",
        ),
        click.option(
            "--min-activity",
            type=click.Choice(LEVELS),
            help="Only markets that are at least so active: active ones change, quiet ones have a "
            "book or were traded, dead ones have neither.  [default: all]",
        ),
        click.option(
            "--top",
            type=click.IntRange(1),
            metavar="N",
            help="Only the N most active markets, by what is traded.  [default: all]",
        ),
    ):
        command = option(command)
    return command


@cli.command()
@_network_options
@click.option(
    "--shards",
    type=int,
    help="How many worker processes share the markets.  [default: 1]",
)
@click.option(
    "--source",
    type=click.Choice(registry.names()),
    help="Which upstream API to read: a node's WebSocket, the chain stream over gRPC, or the "
    "indexer's streams.  "
    "[default: chain-ws; on mainnet and testnet chain-grpc]",
)
@click.option(
    "--per-market",
    is_flag=True,
    help="On chain-grpc: one call per market instead of one per shard; dearer, more apart.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice(channels.NAMES),
    help="What to collect; may be repeated ('collector capabilities' says what each is). Gaps are "
    f"always announced.  [default: {', '.join(DEFAULT_CHANNELS)}]",
)
@click.option(
    "--publish",
    multiple=True,
    metavar="ENDPOINT",
    help="Where subscribers connect, tcp://HOST:PORT or ipc://PATH; requests are answered at "
    f"the next port, or PATH.requests. May be repeated.  [default: {DEFAULT_PUBLISH}]",
)
@click.option(
    "--http", metavar="HOST:PORT",
    help="Serve /metrics, /healthz, /readyz, /status and /events there; without HOST on "
    "loopback. Needs the extra web.  [default: off]",
)  # fmt: skip
@click.option(
    "--ready-coverage", type=click.FloatRange(0, 1), metavar="X",
    help="Coverage from which /readyz says yes.  [default: 0.99]",
)  # fmt: skip
@click.option(
    "--metrics-markets", type=click.IntRange(0), metavar="N",
    help="How many markets get metrics of their own, a few series each.  [default: 300]",
)  # fmt: skip
@click.option(
    "--web", is_flag=False, flag_value=DEFAULT_WEB, metavar="[HOST:PORT]",
    help=f"Serve a web page that shows all of this live, by itself at {DEFAULT_WEB}.",
)  # fmt: skip
@click.option(
    "--web-allow-remote", is_flag=True,
    help="Allow --web at an address that other machines can reach. There is no password.",
)  # fmt: skip
@click.option(
    "--devnet-spot", type=click.IntRange(0), default=12, show_default=True,
    help="Spot markets of the devnet.",
)  # fmt: skip
@click.option(
    "--devnet-perp", type=click.IntRange(0), default=4, show_default=True,
    help="Perpetual markets of the devnet.",
)  # fmt: skip
@click.option(
    "--devnet-option",
    "devnet_options",
    multiple=True,
    metavar="OPTION",
    help="Another option for the devnet, for example --devnet-option=--quiet-markets=4.",
)
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="Stop after so long.  [default: run until stopped]",
)  # fmt: skip
@click.option(
    "--min-coverage", type=click.FloatRange(0, 1), metavar="X",
    help="Exit with 4 if coverage is below this at the end.",
)  # fmt: skip
@click.option(
    "--state", metavar="DIR",
    help="Where to keep what outlives the run: how far each market's blocks are accounted for. The "
    "next start takes up there. 'none' keeps nothing.  [default: a folder of the network and "
    "endpoint in $XDG_STATE_HOME/collector; of a devnet of its own none]",
)  # fmt: skip
@click.option(
    "--summary", metavar="FILE",
    help="Write the summary, one JSON object, here at the end; - is stdout.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="INFO",
    show_default=True, help="How much to log to stderr.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="How to log: for people, or one JSON object a line.",
)  # fmt: skip
def start(**options: Any) -> None:
    """
    Collect: split the markets over shards, publish their frames.

    Ctrl-C or SIGTERM drains and stops; a second one forces.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # Until the coordinator takes over there is nothing to stop.
        signal.signal(number, lambda *_: sys.exit(EXIT_OK))
    from collector.cli.start import start as run

    logs.configure("coordinator", level=options["log_level"], form=options["log_format"])
    try:
        sys.exit(run(**options))
    except ConfigError as error:
        fail("start", error)


_connect_option = click.option(
    "--connect",
    metavar="ENDPOINT",
    default=DEFAULT_PUBLISH,
    show_default=True,
    help="The collector's publish endpoint.",
)


@cli.command()
@_connect_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole summary as one JSON object.")
@click.option("--watch", is_flag=True, help="Show it anew every second until Ctrl-C.")
def status(*, connect: str, as_json: bool, watch: bool) -> None:
    """Say how a running collector stands: coverage, blocks, gaps, latency, processes."""
    from collector.cli.status import show_status

    try:
        show_status(connect, as_json=as_json, watch=watch)
    except ConfigError as error:
        fail("status", error)


@cli.command()
@_network_options
@click.option(
    "--connect", metavar="ENDPOINT", help="Ask a running collector there instead of the network."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def markets(**options: Any) -> None:
    """
    List the markets of a network, or of a running collector with their state.

    Without --network, --config or --connect the collector at the default endpoint is asked.
    """
    from collector.cli.status import show_markets

    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    if all(
        context.get_parameter_source(name) is default for name in ("network", "config", "connect")
    ):
        options["connect"] = DEFAULT_PUBLISH
    try:
        show_markets(**options)
    except ConfigError as error:
        fail("markets", error)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def capabilities(*, as_json: bool) -> None:
    """Say which source gives which channel, and what is guaranteed there."""
    from collector.cli.status import show_capabilities

    show_capabilities(as_json=as_json)


def _ordering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command has that changes a running collector."""
    within = click.option(
        "--within", type=click.FloatRange(0, min_open=True), metavar="SECONDS", default=60.0,
        show_default=True, help="How long to wait until it is done.",
    )  # fmt: skip
    return _connect_option(within(command))


def _order(kind: str, connect: str, within: float, **fields: Any) -> None:
    from collector.cli.admin import order

    try:
        click.echo(order(connect, kind, within_s=within, **fields))
    except ConfigError as error:
        fail(kind, error)


@cli.command()
@click.argument("markets", nargs=-1, required=True, metavar="MARKET...")
@_ordering
def add(*, markets: tuple[str, ...], connect: str, within: float) -> None:
    """
    Have a running collector collect more markets.

    MARKET is a ticker, a symbol, a glob of either, or a market id.
    """
    _order("add", connect, within, markets=markets)


@cli.command()
@click.argument("markets", nargs=-1, required=True, metavar="MARKET...")
@_ordering
def remove(*, markets: tuple[str, ...], connect: str, within: float) -> None:
    """
    Have a running collector let markets go.

    MARKET is a ticker, a symbol, a glob of either, or a market id.
    """
    _order("remove", connect, within, markets=markets)


@cli.command()
@click.argument("shards", type=click.IntRange(1))
@_ordering
def scale(*, shards: int, connect: str, within: float) -> None:
    """Have a running collector use so many shards, without losing a frame."""
    _order("scale", connect, within, number=shards)


@cli.command()
@_ordering
def rebalance(*, connect: str, within: float) -> None:
    """Have a running collector move markets until its shards carry equal loads."""
    _order("rebalance", connect, within)


@cli.command()
@click.argument("shard", type=click.IntRange(0))
@_ordering
def drain(*, shard: int, connect: str, within: float) -> None:
    """Have a running collector move all markets of a shard to the others, and end it."""
    _order("drain", connect, within, number=shard)


def fail(command: str, error: ConfigError) -> NoReturn:
    """Say in one sentence what was wrong, and exit as configuration errors do."""
    click.echo(f"collector {command}: {error}", err=True)
    sys.exit(EXIT_CONFIG)


def main() -> None:
    """Be the command ``collector``."""
    cli(prog_name="collector")
