"""`collector tail`: published frames, as lines to read or as JSON."""

import heapq
import itertools
import math
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from collector.cli import options, query, value_types
from collector.cli.base import must_be_read
from collector.cli.command import Command
from collector.cli.query import ask_markets, ask_summary
from shards.protocol.errors import ConfigError
from shards.protocol.frames import KIND_BY_CHANNEL

if TYPE_CHECKING:
    from collector.client.market_status import MarketStatus
    from collector.client.received import Received
    from collector.client.subscriber import Subscriber

_QUIET_S: Final = 0.3
"""Silence after which the existing frames have all arrived."""
_CATCH_UP_S: Final = 2.0
_LOOK_S: Final = 1.0
"""How often it looks whether its output is still read, while there is nothing to print."""


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
    "-n",
    "count",
    type=value_types.Number(int, least=1),
    metavar="N",
    help="Stop after N frames: first the newest existing ones, then new ones.",
)
@options.json("One JSON object per frame, with all fields.")
@options.connect("Where the collector publishes.", several=True)
@options.cluster
def tail(
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    count: int | None,
    as_json: bool,
    connect: str,
    cluster: str | None,
) -> None:
    """
    Print what a running collector publishes.

    Books start with their snapshot, conflated channels (ticker, funding and others) with their
    newest event, trades and orders with new ones. Frames lost on the way are fetched again; those
    no longer available are printed as lost. Ctrl-C ends it.
    """
    try:
        _tail(markets or ("*",), channels, count, as_json, connect, cluster)
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
    cluster: str | None,
) -> None:
    from collector.client.subscriber import Subscriber
    from collector.client.topic_filter import Wanted, known_symbols

    # An oracle's symbol need not be a market.
    strict = "oracle" not in channels
    explicit, channels = channels, channels or tuple(KIND_BY_CHANNEL)
    # Report a wrong pattern at once, not after waiting for the markets.
    Wanted(markets, channels)
    known = _ask(query.cells_of(connect, cluster), explicit)
    symbols = known_symbols(markets, known, strict=strict) if markets != ("*",) else markets
    with Subscriber(connect, markets=symbols, channels=channels, cluster=cluster) as subscriber:
        _print(subscriber, as_json, count)


def _ask(connect: str, channels: tuple[str, ...]) -> "list[MarketStatus]":
    """Return the markets of all cells, after checking that these channels are collected."""
    cells = query.each(connect, lambda client: (ask_summary(client), ask_markets(client)))
    answers = []
    for endpoint, answer in cells:
        if isinstance(answer, ConfigError):
            click.echo(str(answer), err=True)
        else:
            answers.append((endpoint, *answer))
    query.of_one_chain((endpoint, summary) for endpoint, summary, _ in answers)
    _refuse_silent(channels, sorted({name for _, one, _ in answers for name in one.collected}))
    return [market for _, _, markets in answers for market in markets]


def _refuse_silent(channels: tuple[str, ...], collected: list[str]) -> None:
    """Refuse a channel that is not collected; older collectors do not list theirs."""
    for channel in channels:
        if collected and channel not in (*collected, "gap"):
            raise ConfigError(
                f"--channel {channel} is not collected there, only {', '.join(collected)}: "
                f"'collector start --channel {channel}' collects it"
            )


def _print(subscriber: "Subscriber", as_json: bool, count: int | None) -> None:
    """Print frames until there are enough; flush whenever the next one is not available."""
    from collector.client.formatting import json_line, text_line

    line = json_line if as_json else text_line
    write, flush, printed = sys.stdout.write, sys.stdout.flush, 0
    for newest in _newest(subscriber, count) if count is not None else ():
        write(line(newest) + "\n")
        printed += 1
    while printed != count:
        if not subscriber.pending:
            flush()
        received = _next(subscriber)
        if received is None:
            break
        if not _noted(subscriber, received):
            write(line(received) + "\n")
            printed += 1
    flush()


def _newest(subscriber: "Subscriber", count: int) -> "list[Received]":
    """Read the existing frames of every topic; return the newest, in order."""
    from collector.client.received import Joined

    kept: list[tuple[int, int, Received]] = []
    until = math.inf
    for number in itertools.count():
        if time.monotonic() >= until:
            break
        received = _next(subscriber) if until == math.inf else subscriber.poll(_QUIET_S)
        if received is None:
            break
        if isinstance(received.event, Joined):
            until = time.monotonic() + _CATCH_UP_S
        if not _noted(subscriber, received):
            heapq.heappush(kept, (received.ts_pub or received.ts_sub, number, received))
            if len(kept) > count:
                heapq.heappop(kept)
    return [received for _, _, received in sorted(kept, key=lambda one: one[:2])]


def _next(subscriber: "Subscriber") -> "Received | None":
    """Wait for the next event, as long as somebody reads what is printed."""
    while (received := subscriber.poll(_LOOK_S)) is None and subscriber.is_open:
        must_be_read()
    return received


def _noted(subscriber: "Subscriber", received: "Received") -> bool:
    """Print to stderr what is not a frame; return whether it was not one."""
    from collector.client.formatting import describe
    from collector.client.received import Joined, Unanswered

    if not isinstance(received.event, Joined | Unanswered):
        return False
    click.echo(f"{subscriber.connect}: {describe(received.event)}", err=True)
    return True
