"""`collector tail`: published frames, as lines to read or as JSON."""

import sys
from typing import TYPE_CHECKING, Final

import click

from collector.cli import options
from collector.cli.command import Command
from shards.protocol.errors import ConfigError
from shards.protocol.frames import KIND_BY_CHANNEL

if TYPE_CHECKING:
    from collector.client.subscriber import Subscriber

_ANSWER_S: Final = 5.0


@click.command(cls=Command)
@options.market(
    "Symbol, ticker, market id, or a glob of the first two, also of oracles; may be repeated."
)
@options.channel(
    f"{', '.join(KIND_BY_CHANNEL)}; may be repeated.",
    tuple(KIND_BY_CHANNEL),
    "all that are collected",
)
@options.option(
    "-n", "count", type=options.Number(int, least=1), metavar="N", help="End after N frames."
)
@options.json("One JSON object a frame, all its fields.")
@options.connect("Where the collector publishes.")
def tail(
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    count: int | None,
    as_json: bool,
    connect: str,
) -> None:
    """
    Print what a running collector publishes.

    A book begins with its snapshot; a ticker, funding and what else is a state with its newest;
    trades and orders with what comes from now on. Frames lost on the
    way are fetched again; what cannot be had any more is printed as lost. Ctrl-C ends it.
    """
    try:
        _tail(markets or ("*",), channels, count, as_json, connect)
    except KeyboardInterrupt:
        return
    except (TimeoutError, ValueError) as error:
        raise ConfigError(str(error)) from None


def _tail(
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    count: int | None,
    as_json: bool,
    connect: str,
) -> None:
    from collector.client.requests import RequestClient
    from collector.client.subscriber import Subscriber
    from collector.client.topic_filter import Wanted, known_symbols
    from collector.settings.parts import requests_endpoint

    # What an oracle has a price of need not be a market.
    strict = "oracle" not in channels
    channels = channels or tuple(KIND_BY_CHANNEL)
    # A wrong channel is told at once, not after the wait for the markets.
    Wanted(markets, channels)
    with RequestClient(requests_endpoint(connect)) as client:
        known = client.ask("markets", within_s=_ANSWER_S)["markets"]
    symbols = known_symbols(markets, known, strict=strict) if markets != ("*",) else markets
    with Subscriber(connect, markets=symbols, channels=channels) as subscriber:
        _print(subscriber, as_json, count)


def _print(subscriber: "Subscriber", as_json: bool, count: int | None) -> None:
    """Print frames until there are enough; flush whenever the next one is not there yet."""
    from collector.client.formatting import describe, json_line, text_line
    from collector.client.received import Joined, Unanswered

    line = json_line if as_json else text_line
    write, flush, printed = sys.stdout.write, sys.stdout.flush, 0
    while printed != count:
        if not subscriber.pending:
            flush()
        received = subscriber.poll()
        if received is None:
            break
        if isinstance(received.event, Joined | Unanswered):
            click.echo(f"{subscriber.connect}: {describe(received.event)}", err=True)
            continue
        write(line(received) + "\n")
        printed += 1
    flush()
