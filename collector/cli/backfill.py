"""`collector backfill`: record the past from the chain's record."""

from typing import Any, Final

import click

from collector.cli import options, value_types
from collector.cli.command import Command

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

    from collector.archive.recording.backfill import BackfillConfig, backfill as run
    from collector.markets import networks, selection
    from collector.markets.discovery import discover
    from collector.settings import config_file
    from shards.runtime import logs

    logs.configure("backfill", level="WARNING", form="text")
    file = config_file.read(asked["config"]) if asked["config"] else config_file.File()
    _, endpoints = networks.described(asked["network"], file)
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
