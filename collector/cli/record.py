"""`collector record`: keep what a running collector publishes."""

import asyncio
import signal

import click

from collector.settings.parts import DEFAULT_PUBLISH


@click.command("record")
@click.option("--to", required=True, metavar="DIR", help="The archive's folder; made if missing.")
@click.option(
    "--connect", default=DEFAULT_PUBLISH, show_default=True, metavar="ENDPOINT",
    help="Where the collector publishes.",
)  # fmt: skip
@click.option(
    "--market", "markets", multiple=True, metavar="PATTERN",
    help="Symbol, ticker, or a glob of either; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "--channel", "channels", multiple=True, metavar="C",
    help="What to keep; may be repeated.  [default: all that are collected]",
)  # fmt: skip
@click.option(
    "--sync", type=click.Choice(["block", "second"]), default="block", show_default=True,
    help="How much a power cut may cost until it is fetched again.",
)  # fmt: skip
@click.option("--duration", type=click.FloatRange(min=0), default=0.0, help="Stop after SECONDS.")
@click.option("--part-heights", type=click.IntRange(min=10), default=0, hidden=True)
def record(
    to: str,
    connect: str,
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    sync: str,
    duration: float,
    part_heights: int,
) -> None:
    """
    Record what a running collector publishes into an archive of Parquet files.

    Nothing that was received is lost to a kill or a power cut; what was missed meanwhile is
    fetched from the chain's own record. Ctrl-C ends it in order.
    """
    from collector.archive.process import RecordConfig, record as run
    from shards.protocol.errors import EXIT_CONFIG, ConfigError
    from shards.runtime import logs

    logs.configure("record", level="INFO", form="text")
    config = RecordConfig(
        to=to,
        connect=connect,
        markets=markets or ("*",),
        sync="second" if sync == "second" else "block",
        duration_s=duration,
        part_heights=part_heights,
    )
    if channels:
        import msgspec

        config = msgspec.structs.replace(config, channels=channels)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        await run(config, stop)

    try:
        asyncio.run(until_stopped())
    except ConfigError as error:
        click.echo(f"collector record: {error}", err=True)
        raise SystemExit(EXIT_CONFIG) from None
