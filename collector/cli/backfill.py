"""`collector backfill`: record the past from the chain's record."""

from typing import TYPE_CHECKING, Any, Final

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from collector.settings import installed

if TYPE_CHECKING:
    from shards.protocol.settings import Endpoints

_CHANNELS: Final = ("book", "trades", "orders", "oracle", "blocks")


@click.command(cls=Command)
@options.option("--to", required=True, metavar="DIR", help="Archive folder; created if missing.")
@options.option(
    "--from", "first", required=True, metavar="WHEN",
    help="The first block: a height, or an instant (2026-11-28T10:00, UTC).",
)  # fmt: skip
@options.option(
    "--until", "last", default="", metavar="WHEN",
    help="The last block, inclusive.  [default: the newest]",
)  # fmt: skip
@options.market("Symbol, ticker, market id, or a glob of the first two; may be repeated.")
@options.channel("What to fetch; may be repeated.", _CHANNELS, "book and trades")
@options.option(
    "--network",
    default="local",
    show_default=True,
    metavar="NAME",
    help="The network to fetch from.",
)
@options.option("--config", metavar="FILE", help="TOML file that describes networks.")
@options.connect(
    "Instead of --network: fetch from the nodes of this running collector.",
    default=None,
    show_default=False,
)
@options.option(
    "--per-s", type=value_types.Number(float, above=0), default=20.0, show_default=True, metavar="N",
    help="Most blocks per second requested from the node.",
)  # fmt: skip
@options.option("--part-heights", type=value_types.Number(int, least=0), default=0, hidden=True)
def backfill(**asked: Any) -> None:
    """
    Fetch past blocks into an archive, as if they had been recorded live.

    Blocks already in the archive are not requested, and what an interrupted run fetched is kept:
    run the same command again to continue. Gaps of an old archive are filled the same way.
    """
    import asyncio

    installed.need("pyarrow", "archive")
    from collector.archive.recording.backfill import BackfillConfig, backfill as run
    from collector.markets import networks, selection
    from collector.markets.discovery import discover
    from collector.settings import config_file
    from shards.protocol.errors import ConfigError
    from shards.protocol.settings import Endpoints
    from shards.runtime import logs

    logs.configure("backfill", level="WARNING", form="text")
    if asked["connect"]:
        endpoints = _nodes_of(asked["connect"])
    else:
        file = config_file.read(asked["config"]) if asked["config"] else config_file.File()
        _, endpoints = networks.described(asked["network"], file)
        if endpoints == Endpoints():
            raise ConfigError(
                f"--network {asked['network']} names no nodes: those of a devnet are known to its "
                "collector alone, which --connect asks"
            )
    listed = discover(endpoints)
    chosen = selection.choose(listed, asked["markets"]) if asked["markets"] else listed
    config = BackfillConfig(
        to=asked["to"],
        first=asked["first"],
        last=asked["last"],
        markets=tuple(chosen),
        channels=asked["channels"] or ("book", "trades"),
        endpoints=endpoints,
        per_s=asked["per_s"],
        part_heights=asked["part_heights"],
    )
    with click.progressbar(length=0, label="fetching blocks", show_pos=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        outcome = asyncio.run(run(config, progress))
    click.echo(
        f"blocks {outcome.first} to {outcome.last}: {outcome.asked} fetched for "
        f"{outcome.parts} parts, {outcome.gone} that no node has any more"
    )
    for part in outcome.skipped:
        click.echo(
            f"left out part {part}: a recorder has begun it; run this again once it is sealed"
        )


def _nodes_of(connect: str) -> "Endpoints":
    """Return the nodes that a running collector reads; a devnet's are known to it alone."""
    from collector.archive.recording.identity import open_ones
    from collector.cli import query

    given = options.given(click.get_current_context())
    if both := {"network", "config"} & given.keys():
        raise click.UsageError(f"--connect and --{both.pop()}: give one of them")
    return open_ones(query.at(connect, query.ask_summary).endpoints)
