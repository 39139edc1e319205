"""`collector verify`: compare a running collector, or an archive, with the chain's record."""

import sys
from typing import Any, Final

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from shards.protocol.errors import ConfigError
from shards.runtime.exit_codes import EXIT_BELOW, EXIT_OK

_CHANNELS: Final = ("book", "trades")


@click.command(cls=Command)
@options.connect()
@options.option(
    "--rpc",
    metavar="URL",
    help="CometBFT RPC of a node, http://HOST:PORT.  [default: from --config, or the node "
    "that the running collector reads]",
)
@options.option(
    "--grpc",
    metavar="HOST:PORT",
    help="gRPC of a node, for its order books.  [default: like --rpc]",
)
@options.option("--tls", is_flag=True, help="Use TLS for the gRPC endpoint.")
@options.option(
    "--config",
    metavar="FILE",
    help="The collector's TOML file; --rpc and --grpc default to its endpoints.",
)
@options.option(
    "--network",
    metavar="NAME",
    help="Query this network's nodes: mainnet, testnet, local, or one from --config.",
)
@options.option(
    "--duration",
    default=60.0,
    show_default=True,
    type=value_types.Number(float, least=1),
    metavar="SECONDS",
    help="How long to follow the collector; Ctrl-C ends this phase early.",
)
@options.market("Symbol, ticker, market id, or a glob of the first two; may be repeated.")
@options.channel("What the collector collects; may be repeated.", _CHANNELS, "both")
@options.option(
    "--books-every",
    type=value_types.Number(int, least=1),
    metavar="N",
    help="Check each book at every Nth of its updates.  [default: the 1st, 2nd, 4th, 8th … "
    "and always the last]",
)
@options.option(
    "--max-rps",
    default=50.0,
    show_default=True,
    type=value_types.Number(float, above=0),
    metavar="N",
    help="Most requests per second to the node.",
)
@options.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=value_types.Number(float, least=0),
    metavar="SECONDS",
    help="How long to wait for the node: it may be restarting.",
)
@options.option(
    "--capture",
    metavar="FILE",
    help="Check the frames in this file instead of a running collector's.",
)
@options.option(
    "--record",
    metavar="FILE",
    help="Write the frames received to this file, for --capture.",
)
@options.option(
    "--archive",
    metavar="DIR",
    help="Check this archive instead of a running collector: its files, sequences and ids; "
    "with --network, --rpc or --config also against the chain.",
)
@options.json("Print the counts as one JSON object.")
def verify(*, as_json: bool, **asked: Any) -> None:
    """
    Check a running collector against the chain, with code independent of the collector's.

    Every trade is compared with the chain's block results, every book with the order-book query
    pinned to its height, the ledger with the chain's heights. Exits with 4 on any difference,
    with 3 if something cannot be reached.

    With --archive: files against the manifest, facts against their digests, sequences and ids for
    gaps that the coverage does not name; then every trade and change against the chain.
    """
    if asked["archive"] and (asked["capture"] or asked["record"]):
        raise click.UsageError("--archive excludes --capture and --record")
    if asked["capture"] and asked["record"]:
        raise click.UsageError("--capture and --record exclude each other")
    from collector.verify import check
    from collector.verify.capture import CaptureError
    from collector.verify.chain import Unreachable

    try:
        findings = check.of_archive(asked) if asked["archive"] else check.run(asked)
    except (CaptureError, Unreachable, ValueError) as error:
        raise ConfigError(str(error)) from None
    if as_json:
        import json

        click.echo(json.dumps(findings.as_dict()))
    else:
        from shards.protocol.text import printable

        click.echo("\n".join(map(printable, findings.table().split("\n"))))
    sys.exit(EXIT_OK if findings.equal else EXIT_BELOW)
