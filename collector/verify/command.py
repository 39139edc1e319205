"""The command `collector verify`."""

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from collector.settings.parts import DEFAULT_PUBLISH
from shards.protocol.errors import EXIT_BELOW, EXIT_CONFIG

if TYPE_CHECKING:
    import threading

    from collector.verify.chain import Chain
    from collector.verify.findings import Findings
    from shards.protocol.settings import Endpoints


@click.command("verify")
@click.option(
    "--connect",
    default=DEFAULT_PUBLISH,
    show_default=True,
    metavar="ENDPOINT",
    help="Where the collector publishes.",
)
@click.option(
    "--rpc",
    metavar="URL",
    help="CometBFT RPC of a node, http://HOST:PORT.  [default: as --config says, or the node "
    "that the running collector reads]",
)
@click.option(
    "--grpc",
    metavar="HOST:PORT",
    help="gRPC of a node, for its order books.  [default: like --rpc]",
)
@click.option("--tls", is_flag=True, help="The gRPC endpoint speaks TLS.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    help="TOML file of the collector: --rpc and --grpc are taken from it.",
)
@click.option(
    "--duration",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="How long to follow the collector; Ctrl-C ends that part early.",
)
@click.option(
    "--market",
    "markets",
    multiple=True,
    metavar="PATTERN",
    help="Symbol, ticker, market id, or a glob of the first two; may be repeated. Default: all.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice(["book", "trades"]),
    help="What the collector collects; may be repeated. Default: both.",
)
@click.option(
    "--books-every",
    type=click.IntRange(1),
    metavar="N",
    help="Check each book at every Nth of its updates.  [default: the 1st, 2nd, 4th, 8th … "
    "and always the last]",
)
@click.option(
    "--max-rps",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Ask the node at most so often per second.",
)
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long the node may leave a question unanswered: it may be restarting.",
)
@click.option(
    "--capture",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Check the frames in this file instead of a running collector's.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the frames received to this file, for --capture.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def verify(**options: Any) -> None:
    """
    Check a running collector against the chain, by other code than the collector's.

    Every trade is compared with the chain's block results, every book with the order-book query
    pinned to its height, the ledger with the chain's heights. Exits with 4 on any difference,
    with 3 if something cannot be reached.
    """
    if options["capture"] and options["record"]:
        raise click.UsageError("--capture and --record exclude each other")
    from collector.verify.capture import CaptureError
    from collector.verify.chain import Unreachable
    from shards.protocol.errors import ConfigError

    try:
        findings = _run(options)
    except (CaptureError, ConfigError, Unreachable, ValueError) as error:
        _fail(str(error))
    if options["as_json"]:
        import json

        click.echo(json.dumps(findings.as_dict()))
    else:
        click.echo(findings.table())
    sys.exit(0 if findings.equal else EXIT_BELOW)


def _run(options: dict[str, Any]) -> "Findings":
    from collector.verify.signals import first_one_sets

    with _chain(options) as chain:
        if options["capture"]:
            from collector.verify import replayed

            return replayed.check(options["capture"], chain, books_every=options["books_every"])
        with first_one_sets() as stop:
            return _live(options, chain, stop)


def _live(options: dict[str, Any], chain: "Chain", stop: "threading.Event") -> "Findings":
    from pathlib import Path

    from collector.verify.live import Live, Options

    wanted = Options(
        connect=options["connect"],
        duration_s=options["duration"],
        markets=options["markets"],
        channels=options["channels"] or ("book", "trades"),
        books_every=options["books_every"],
    )
    if not options["record"]:
        return Live(wanted, chain).run(stop)
    try:
        with Path(options["record"]).open("wb") as record:
            return Live(wanted, chain, record).run(stop)
    except OSError as error:
        _fail(f"cannot write {options['record']}: {error.strerror}")


def _chain(options: dict[str, Any]) -> Any:
    """Make the chain's client from the options, a configuration, or the collector's own word."""
    from contextlib import closing

    import msgspec

    from collector.verify.chain import Chain
    from shards.protocol.errors import ConfigError

    network = _network(options)
    rpc = options["rpc"] or next(iter(network.rpc), "")
    grpc = options["grpc"] or next(iter(network.chain_grpc), "")
    if not rpc.startswith(("http://", "https://")) or not grpc:
        raise ConfigError(f"which node is to be asked? --rpc is {rpc!r}, --grpc is {grpc!r}")
    chain = Chain(
        rpc,
        grpc,
        network=msgspec.structs.replace(
            network, tls=options["tls"] or (network.tls and not options["grpc"])
        ),
        max_rps=options["max_rps"],
        patience_s=options["patience"],
    )
    chain.greet()
    return closing(chain)


def _network(options: dict[str, Any]) -> "Endpoints":
    """Find out where the node is, as far as the options do not say it all."""
    import msgspec

    from collector.client.requests import RequestClient
    from collector.markets import networks
    from collector.settings.parts import requests_endpoint
    from shards.protocol.errors import ConfigError
    from shards.protocol.settings import Endpoints

    if options["config"]:
        return networks.read(options["config"]).network or networks.LOCAL
    if options["capture"] or (options["rpc"] and options["grpc"]):
        return networks.LOCAL
    with RequestClient(requests_endpoint(options["connect"])) as client:
        try:
            status = client.ask("status", within_s=5.0)["status"]
        except TimeoutError as error:
            raise ConfigError(str(error)) from None
    return msgspec.convert(status["endpoints"], Endpoints)


def _fail(sentence: str) -> NoReturn:
    click.echo(f"collector verify: {sentence}", err=True)
    sys.exit(EXIT_CONFIG)
