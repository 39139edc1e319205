"""
The pipeline of a shard that reads the indexer: the surface of `Pipeline`, without blocks.

::

    receive(payload, ts_recv, subscription) ─► decoder ─► feed ─► records   (take_records)
    receive(a probe's answer)                             └─────► requests  (take_requests)
    join(snapshot), audited(trades)    answer what is owed
    tick(now)                          lets trades go that waited for others of their block

A subscription's number says what its payloads are (`decoders.indexer.PARTS`), because they do not say so
themselves. No I/O, no clock, no log.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from shards.adapters.injective_indexer.decoder import (
    PARTS,
    SPOT_PROBE,
    STREAMS,
    IndexerDecoder,
    Stream,
    Told,
    Units,
    streams_of,
)
from shards.adapters.injective_indexer.feed import Head, IndexerFeed
from shards.core.outgoing import Outgoing
from shards.core.record_builder import Outbox
from shards.protocol.errors import DecodeError
from shards.protocol.events import Cause, Gap, Snapshot, Trade
from shards.protocol.frames import KIND_TRADES, Record, decode_trades
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Limits, Market
from shards.protocol.trade_ids import TradeIdentity


class _Reading(msgspec.Struct, gc=False):
    """Whose payloads a subscription's are, and how to read them."""

    stream: Stream | None
    """None for a probe."""
    decoder: IndexerDecoder
    feed: IndexerFeed | None = None
    market: Market | None = None
    units: Units | None = None


class IndexerPipeline(Outgoing):
    """All markets of one shard."""

    block_time_s = 0.0
    """The indexer tells no blocks."""

    def __init__(
        self,
        markets: Sequence[Market],
        *,
        messages: Mapping[bool, Any],
        channels: Sequence[str],
        limits: Limits,
        ledgers: Mapping[str, MarketLedger] | None = None,
    ) -> None:
        """``messages`` are the generated modules of the spot (True) and derivative service."""
        self._limits = limits
        self._streams = streams_of(channels)
        self._with_ticker = "ticker" in channels
        self._decoders = {
            spot: IndexerDecoder(module, spot=spot) for spot, module in messages.items()
        }
        self._head = Head()
        self.markets: dict[str, Market] = {}
        """By market id; it changes while running, so do not keep a copy."""
        self.feeds: dict[str, IndexerFeed] = {}
        self.outbox = Outbox(
            source="indexer-grpc",
            trade_identity=TradeIdentity.ID,
            limits=limits,
            channels=channels,
        )
        self._subscriptions: dict[int, _Reading] = {}
        self._number_of: dict[tuple[str, Stream], int] = {}
        self.payloads = 0
        self.ignored = 0
        """Messages of subscriptions that are no longer ours."""
        self.add(markets, ledgers or {})

    def _all(self) -> Mapping[str, IndexerFeed]:
        return self.feeds

    # ---- which markets --------------------------------------------------------------

    def add(self, markets: Sequence[Market], ledgers: Mapping[str, MarketLedger]) -> None:
        """Make feeds for more markets; those with a ledger are to be resumed by the caller."""
        for market in markets:
            self.markets[market.market_id] = market
            self.outbox.add(market)
            self.feeds[market.market_id] = IndexerFeed(
                market.market_id,
                ledgers.get(market.market_id) or MarketLedger(),
                self.outbox,
                self._head,
                limits=self._limits,
                streams=self._streams,
                with_ticker=self._with_ticker,
            )

    def remove(self, market_ids: Iterable[str]) -> None:
        """Let markets go; what still comes of their subscriptions is ignored."""
        for market_id in market_ids:
            for stream in self._streams:
                number = self._number_of.pop((market_id, stream), None)
                if number is not None:
                    self._subscriptions.pop(number, None)
            self.feeds.pop(market_id).flush()
            self.outbox.remove(market_id)
            del self.markets[market_id]

    @property
    def head(self) -> int:
        """Highest block that a trade or a book named."""
        return self._head.height

    @property
    def head_ts_event(self) -> int:
        """Return the time of the head, where it was told."""
        return self._head.ts_event

    @property
    def head_at(self) -> int:
        """``ts_recv`` of the head."""
        return self._head.at

    # ---- what came from the source --------------------------------------------------

    def subscribed(self, subscription: int, market_ids: Iterable[str], ts: int) -> None:
        """From now on messages with this number belong to this market; a probe's name theirs."""
        part = subscription % PARTS
        if part >= SPOT_PROBE:
            decoder = self._decoders[part == SPOT_PROBE]
            self._subscriptions[subscription] = _Reading(None, decoder)
            return
        stream = STREAMS[part]
        (market_id,) = market_ids
        market = self.markets[market_id]
        old = self._number_of.get((market_id, stream))
        if old is not None:
            self._subscriptions.pop(old, None)
        self._number_of[market_id, stream] = subscription
        feed = self.feeds[market_id]
        feed.subscribed(stream)
        decoder = self._decoders[market.type == "spot"]
        self._subscriptions[subscription] = _Reading(
            stream, decoder, feed, market, Units.of(market)
        )

    def confirmed(self, subscription: int, ts: int) -> None:
        """A subscription is known to be served."""
        reading = self._subscriptions.get(subscription)
        if reading is not None and reading.feed is not None and reading.stream is not None:
            reading.feed.confirmed(reading.stream, ts)

    def receive(self, payload: bytes | memoryview, ts_recv: int, subscription: int = 0) -> None:
        """Decode one payload and move the feed it concerns; a probe's moves all that it names."""
        self.payloads += 1
        reading = self._subscriptions.get(subscription)
        if reading is None:
            self.ignored += 1
            return
        if reading.feed is None:
            self._receive_probe(reading.decoder, payload, ts_recv)
            return
        assert reading.market is not None
        assert reading.units is not None
        decoder = reading.decoder
        read = decoder.book if reading.stream == "book" else decoder.trade
        try:
            told = read(payload, reading.market, reading.units)
        except DecodeError as error:
            reading.feed.lose("garbage", ts_recv, error.reason)
            self.outbox.want_subscription(reading.feed)
            return
        if told.height > self._head.height:
            self._advance(told.height, told.ts_event, ts_recv)
        reading.feed.receive(told, ts_recv)

    def _receive_probe(
        self, decoder: IndexerDecoder, payload: bytes | memoryview, ts_recv: int
    ) -> None:
        try:
            answer = list(decoder.seen(payload))
        except DecodeError:
            # Nothing is proved by it; the next one will tell.
            self.ignored += 1
            return
        for seen in answer:
            if seen.height > self._head.height:
                self._advance(seen.height, 0, ts_recv)
            feed = self.feeds.get(seen.market_id)
            if feed is not None:
                feed.probed(seen.sequence, ts_recv)

    def _advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        self._head.height = height
        self._head.ts_event = ts_event
        self._head.at = ts_recv

    def lost(self, subscription: int, cause: Cause, ts: int, reason: str) -> None:
        """One subscription has ended; its market is subscribed anew."""
        reading = self._subscriptions.pop(subscription, None)
        if reading is not None and reading.feed is not None:
            reading.feed.lose(cause, ts, reason)
            self.outbox.want_subscription(reading.feed)

    def disconnected(self, cause: Cause, ts: int, reason: str = "") -> None:
        """Every subscription is gone."""
        self._subscriptions.clear()
        self._number_of.clear()
        for feed in self.feeds.values():
            feed.lose(cause, ts, reason)

    def resume(
        self,
        ts: int,
        gaps: Mapping[str, Gap | None] | None = None,
        market_ids: Iterable[str] | None = None,
    ) -> None:
        """Take up markets that another process left behind, and their gaps; all unless named."""
        left = gaps or {}
        for market_id in list(self.feeds) if market_ids is None else market_ids:
            feed = self.feeds[market_id]
            if feed.ledger.first:
                self._head.height = max(self._head.height, feed.ledger.last)
                feed.resume(ts, left.get(market_id))

    # ---- answers to requests --------------------------------------------------------

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Give a feed its snapshot; False if it is too old and another is needed."""
        if snapshot.height > self._head.height:
            self._advance(snapshot.height, 0, ts_recv)
        feed = self.feeds.get(snapshot.market_id)
        return feed is None or feed.join(snapshot, ts_recv)

    def wants_snapshot(self, market_id: str) -> bool:
        """Say whether a snapshot of this market is still needed."""
        feed = self.feeds.get(market_id)
        return feed is not None and not feed.sync.in_sync

    def unanchored(self, market_ids: Iterable[str]) -> list[str]:
        """Return the markets whose trades have no beginning yet."""
        return [name for name in self._ours(market_ids) if not self.feeds[name].ledger.audited_to]

    def anchored(self, market_ids: Iterable[str], newest: int) -> None:
        """Let the trades of these markets begin after this instant, the newest one listed."""
        for name in self._ours(market_ids):
            self.feeds[name].anchored(newest)

    def wants_audit(self, market_ids: Iterable[str]) -> bool:
        """Say whether one of these markets waits for its trades to be compared."""
        return any(self.feeds[name].wants_audit for name in self._ours(market_ids))

    def audit_from(self, market_ids: Iterable[str]) -> int:
        """Return the instant from which on the trades of these markets are to be listed."""
        audited = (self.feeds[name].ledger.audited_to for name in self._ours(market_ids))
        return max(0, min(audited, default=0) - int(self._limits.audit_back_s * 1e9))

    def audited(
        self, market_ids: Iterable[str], messages: Iterable[Any], begun: int, ts: int
    ) -> None:
        """
        Compare what came with all trades that the indexer lists of these markets.

        Raises:
            DecodeError: If one of the messages is no trade.

        """
        listed: dict[str, list[Told]] = {name: [] for name in self._ours(market_ids)}
        newest = 0
        for message in messages:
            market = self.markets.get(message.market_id)
            if market is None or market.market_id not in listed:
                continue
            decoder = self._decoders[market.type == "spot"]
            told = decoder.past_trade(message, market, Units.of(market))
            listed[market.market_id].append(told)
            newest = max(newest, told.ts_event)
            if told.height > self._head.height:
                self._advance(told.height, told.ts_event, ts)
        for name, of_market in listed.items():
            self.feeds[name].audited(of_market, newest, begun, ts)

    def _ours(self, market_ids: Iterable[str]) -> list[str]:
        """Leave out the markets that were let go meanwhile."""
        return [name for name in market_ids if name in self.feeds]

    # ---- time, and frames that never left -------------------------------------------

    def clock_set(self, now: int) -> None:
        """The clock was set: what is measured by it counts from now on, in ns."""
        for feed in self.feeds.values():
            feed.clock_set(now)

    def tick(self, now: int) -> None:
        """Let time pass for every feed."""
        for feed in self.feeds.values():
            feed.tick(now)

    def dropped(self, records: Iterable[Record], ts: int) -> int:
        """Frames never left the process: have their facts again. Return how many they were."""
        records = list(records)
        count, lost_from = self.outbox.dropped(records)
        trades: dict[str, list[Trade]] = {}
        since: dict[str, int] = {}
        for record in records:
            if record.kind == KIND_TRADES:
                event = decode_trades(record.event)
                trades.setdefault(event.market_id, []).extend(event.trades)
                known = since.get(event.market_id, event.ts_event)
                since[event.market_id] = min(known, event.ts_event)
        for market_id in self._ours(lost_from):
            self.feeds[market_id].rewind(trades.get(market_id, ()), since.get(market_id, 0), ts)
        return count

    def held_blocks(self) -> int:
        """Count the blocks that wait until earlier ones are replayed: here there are none."""
        return 0
