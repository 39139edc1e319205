"""`collector record`: keep what a running collector publishes."""

from typing import Final

import click

from collector.cli import options, query, value_types
from collector.cli.command import Command
from collector.settings import installed
from shards.protocol.channels import NAMES

_CHANNELS: Final = (*NAMES, "gap")


@click.command(cls=Command)
@options.option("--to", required=True, metavar="DIR", help="Archive folder; created if missing.")
@options.connect("Where the collector publishes.", several=True)
@options.cluster
@options.market("Symbol, ticker, or a glob of either; may be repeated.")
@options.channel("What to keep; may be repeated.", _CHANNELS, "all that are collected")
@options.option(
    "--sync", type=value_types.SyncAge(), default="5", show_default=True,
    help="How much of the newest data a power cut takes, until it is fetched again: a block, a "
    "second, or SECONDS.",
)  # fmt: skip
@options.option(
    "--duration", type=value_types.Number(float, least=0), default=0.0, metavar="SECONDS",
    help="Stop after SECONDS.  [default: run until stopped]",
)  # fmt: skip
@options.option("--part-heights", type=value_types.Number(int, least=0), default=0, hidden=True)
def record(
    to: str,
    connect: str,
    cluster: str | None,
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    sync: float,
    duration: float,
    part_heights: int,
) -> None:
    """
    Record what a running collector publishes into an archive of Parquet files.

    Nothing received is lost to a kill or a power cut; what was missed in the meantime is
    backfilled from the chain's record. Ctrl-C stops it cleanly.
    """
    # Without it the journal would grow, and nothing would be sealed.
    installed.need("pyarrow", "archive")
    from collector.archive.recording.recorder import RecordConfig, record as run
    from shards.runtime import child, logs

    query.refuse_both(cluster)
    logs.configure("record", level="INFO", form="text")
    config = RecordConfig(
        to=to,
        connect=connect,
        cluster=cluster,
        markets=markets or ("*",),
        sync_s=sync,
        duration_s=duration,
        part_heights=part_heights,
    )
    if channels:
        import msgspec

        config = msgspec.structs.replace(config, channels=channels)

    child.run_loop(lambda life: run(config, life.stop))
