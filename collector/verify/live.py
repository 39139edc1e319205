"""Check a running collector: follow it for a while, let it catch up, compare."""

import threading
import time
from typing import BinaryIO, Final

import msgspec

from collector.client.market_status import MarketStatus, read_markets
from collector.client.received import Joined
from collector.client.requests import RequestClient
from collector.client.subscriber import Subscriber
from collector.client.summary import Summary, read_summary
from collector.client.topic_filter import Wanted, known_symbols
from collector.verify import capture
from collector.verify.capture import Begin, End, Market
from collector.verify.chain import Chain, Unreachable
from collector.verify.findings import Findings
from collector.verify.published import from_received
from collector.verify.verifier import Verifier

_ANSWER_S: Final = 5.0
_JOIN_S: Final = 30.0
_CATCH_UP_S: Final = 45.0
_ASK_S: Final = 0.5
_SETTLE_S: Final = 4.0
"""The subscriber compares its topics with the aggregator once a second, and requests what is
behind twice in a row: after this time it has everything available."""
_MARGIN: Final = 2
"""Heights skipped at the start: the queried node may be behind the collector's."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to check, and for how long."""

    connect: str
    duration_s: float
    markets: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("book", "trades")
    books_every: int | None = None


class Live:
    """One check of a running collector; `run` it once."""

    def __init__(self, options: Options, chain: Chain, record: BinaryIO | None = None) -> None:
        self._options = options
        self._chain = chain
        self._record = record

    def run(self, stop: threading.Event) -> Findings:
        """
        Follow the collector for the duration or until `stop` is set; compare.

        Raises:
            Unreachable: If the collector or the node does not answer.
            ValueError: If a market pattern matches nothing, or an endpoint is invalid.

        """
        options = self._options
        with RequestClient.of(options.connect) as client:
            rows = _markets(client, _ANSWER_S)
            symbols = known_symbols(options.markets, rows) or ["*"]
            channels = (*options.channels, "gap")
            with Subscriber(options.connect, markets=symbols, channels=channels) as subscriber:
                begin = self._begin(subscriber, client, _chosen(rows, symbols))
                verifier = Verifier(
                    self._chain,
                    begin.markets,
                    begin.first,
                    channels=options.channels,
                    books_every=options.books_every,
                )
                with verifier:
                    return self._follow(subscriber, client, verifier, begin, stop)

    def _begin(self, subscriber: Subscriber, client: RequestClient, markets: list[Market]) -> Begin:
        """Wait for the subscription; what is published after it is checked."""
        deadline = time.monotonic() + _JOIN_S
        while True:
            received = subscriber.poll(_ASK_S)
            if received is not None and isinstance(received.event, Joined):
                break
            if time.monotonic() > deadline:
                raise Unreachable(f"no collector publishes at {subscriber.connect}")
        known = _summary(client, _ANSWER_S).blocks.last
        first = max(self._chain.latest(), known) + 1 + _MARGIN
        begin = Begin(markets=markets, first=first, channels=self._options.channels)
        if self._record is not None:
            capture.write(self._record, "begin", msgspec.msgpack.encode(begin))
        return begin

    def _follow(
        self,
        subscriber: Subscriber,
        client: RequestClient,
        verifier: Verifier,
        begin: Begin,
        stop: threading.Event,
    ) -> Findings:
        deadline = time.monotonic() + self._options.duration_s
        while not stop.is_set() and time.monotonic() < deadline:
            self._take(subscriber, verifier, 0.2)
        last = self._chain.latest()
        if last < begin.first:
            raise Unreachable(f"the chain made no block to be checked within the duration: {last}")
        end = self._catch_up(subscriber, client, verifier, begin.markets, last)
        settled_at = time.monotonic() + _SETTLE_S
        while time.monotonic() < settled_at:
            self._take(subscriber, verifier, 0.2)
        if self._record is not None:
            capture.write(self._record, "end", msgspec.msgpack.encode(end))
        return verifier.finish(end)

    def _catch_up(
        self,
        subscriber: Subscriber,
        client: RequestClient,
        verifier: Verifier,
        markets: list[Market],
        last: int,
    ) -> End:
        """Continue until every market's ledger reaches the last height, or time runs out."""
        deadline = time.monotonic() + _CATCH_UP_S
        ask_at = 0.0
        while True:
            self._take(subscriber, verifier, 0.1)
            if time.monotonic() < ask_at:
                continue
            ask_at = time.monotonic() + _ASK_S
            try:
                end = _end(client, markets, last)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                continue
            if min(end.heights.values(), default=last) >= last or time.monotonic() > deadline:
                return end

    def _take(self, subscriber: Subscriber, verifier: Verifier, timeout_s: float) -> None:
        received = subscriber.poll(timeout_s)
        if received is not None:
            if self._record is not None:
                capture.write_received(self._record, received)
            verifier.take(from_received(received))


def _chosen(rows: list[MarketStatus], symbols: list[str]) -> list[Market]:
    """Return the active markets among those subscribed; others have no blocks."""
    wanted = Wanted(symbols, ("gap",))
    return [
        Market(row.market_id, row.symbol, row.type)
        for row in rows
        if row.status == "Active" and wanted.matches(f"gap.{row.symbol}.")
    ]


def _summary(client: RequestClient, within_s: float) -> Summary:
    try:
        return read_summary(client.ask("status", within_s=within_s))
    except (TimeoutError, ValueError) as error:
        raise Unreachable(str(error)) from None


def _markets(client: RequestClient, within_s: float) -> list[MarketStatus]:
    try:
        return read_markets(client.ask("markets", within_s=within_s))
    except (TimeoutError, ValueError) as error:
        raise Unreachable(str(error)) from None


def _end(client: RequestClient, markets: list[Market], last: int) -> End:
    rows = {row.symbol: row.height for row in _markets(client, 1.0)}
    status = _summary(client, 1.0)
    return End(
        last=last,
        heights={market.symbol: rows.get(market.symbol, 0) for market in markets},
        holes={hole.symbol: hole.heights for hole in status.holes},
        open=status.gaps.open,
    )
